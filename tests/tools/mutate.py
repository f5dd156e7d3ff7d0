"""Decodes pictures and zip archives that were damaged in seeded ways: no crash, no hang, bounded memory.

    python tests/tools/mutate.py --images 10000 --zips 1000

Each case is made of its number alone, so that ``--only zip:17`` repeats one. Cases run in child processes that are told
to end by an alarm if one case takes longer than ``--limit`` seconds; a child that dies costs its case, and the next
child goes on behind it. Exit code 1 if any case crashed, hung or raised what is no ImageError, or if a child took more
than ``--memory`` MiB.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from PIL import Image, features

from fer_deploy.errors import ImageError
from fer_deploy.images.decode import decode
from fer_deploy.images.sources import Sources

OK, REFUSED, STRANGE = 0, 1, 2
BLOCK = 200
"""Cases per child."""
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
SIZES = (0, 1, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def images() -> list[bytes]:
    """Encodes pictures in every format and many of its flavours."""
    rng = np.random.default_rng(0)
    gray = Image.fromarray(np.kron(rng.integers(0, 256, (16, 16), dtype=np.uint8), np.ones((6, 6), np.uint8)))
    colour = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    made = [encoded(image, format) for image in (gray, colour) for format in ("PNG", "JPEG", "BMP", "PPM", "TIFF")]
    made += [
        encoded(gray, "GIF", save_all=True, append_images=[gray.rotate(90)]),
        encoded(colour.quantize(32), "PNG"),
        encoded(colour.quantize(32), "GIF"),
        encoded(colour.convert("RGBA"), "PNG", exif=exif),
        encoded(Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16)), "PNG"),
        encoded(gray.convert("1"), "PNG"),
        encoded(colour, "JPEG", progressive=True, exif=exif),
        encoded(colour.convert("CMYK"), "JPEG"),
        encoded(colour, "JPEG", restart_marker_blocks=2),
        encoded(gray, "ICO", sizes=[(48, 48), (16, 16)]),
        *(encoded(colour, "TIFF", compression=each) for each in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
    ]
    if features.check("webp"):
        made += [encoded(colour, "WEBP"), encoded(colour, "WEBP", lossless=True), encoded(gray, "WEBP", exif=exif)]
        made += [encoded(colour, "WEBP", save_all=True, append_images=[colour.rotate(180)])]
    if features.check("jpg_2000"):
        made.append(encoded(colour, "JPEG2000"))
    if features.check("avif"):
        made.append(encoded(colour, "AVIF"))
    return made


def archives() -> list[bytes]:
    """Makes zip archives by every method, with folders, and with what archives can hold besides pictures."""
    made = []
    face = encoded(Image.new("L", (48, 48), 90), "PNG")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.mkdir("folder")
            for name in ("folder/a.png", "b.png", "../c.png", "ünicode.png", "inner.zip", "__MACOSX/._b.png"):
                archive.writestr(name, face)
            with archive.open("large.png", "w", force_zip64=True) as member:
                member.write(face * 5)
            archive.comment = b"a comment"
        made.append(buffer.getvalue())
    return made


def mutated(seeds: list[bytes], number: int) -> bytes:
    """Damages one of some files in one to six ways, all drawn from the case's number."""
    chance = random.Random(number)
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        if not data:
            break
        chance.choice(WAYS)(data, chance, seeds)
    return bytes(data)


def _flip(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _header(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    data[chance.randrange(min(len(data), 64))] = chance.choice(INTERESTING)


def _size(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    """Writes a number as sizes and offsets are, in either order of bytes."""
    value = struct.pack(chance.choice("<>") + "I", chance.choice(SIZES))[: chance.choice((2, 4))]
    at = chance.randrange(len(data))
    data[at : at + len(value)] = value


def _cut(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    del data[chance.randrange(len(data)) :]


def _remove(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.randint(1, 64)]


def _repeat(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    at = chance.randrange(len(data))
    data[at:at] = data[at : at + chance.randint(1, 256)] * chance.randint(1, 8)


def _splice(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    other = chance.choice(seeds)
    data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]


def _noise(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    at = chance.randrange(len(data))
    noise = chance.randbytes(chance.randint(1, 64))
    data[at : at + len(noise)] = noise


WAYS: list[Callable[[bytearray, random.Random, list[bytes]], None]] = [
    *(_flip, _flip, _header, _size, _size, _cut, _remove, _repeat, _splice, _noise),
]


def decode_image(data: bytes) -> int:
    """Decodes one; returns ``OK``, ``REFUSED`` or ``STRANGE``."""
    try:
        assert decode(data).shape == (48, 48, 1)
        return OK
    except ImageError as error:
        return REFUSED if str(error) and "\n" not in str(error) else STRANGE


def decode_archive(data: bytes) -> int:
    """Reads all that an archive holds."""
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        file.write(data)
        file.flush()
        results = []
        for source in Sources([file.name]):
            try:
                assert source.read().shape == (48, 48, 1)
                results.append(OK)
            except ImageError:
                results.append(REFUSED)
    return max(results, default=OK)


KINDS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], int]]] = {
    "picture": (images, decode_image),
    "zip": (archives, decode_archive),
}


def child(kind: str, first: int, last: int, limit_s: int, report: int) -> None:
    """Runs cases; writes two bytes for each to a pipe, one before and one after, and its peak memory in the end."""
    warnings.simplefilter("ignore")
    make, run = KINDS[kind]
    seeds = make()
    for number in range(first, last):
        data = mutated(seeds, number)
        os.write(report, b"s")
        signal.alarm(limit_s)  # ends this process: nothing that Python could catch
        try:
            result = run(data)
        except Exception:
            traceback.print_exc()
            result = STRANGE
        signal.alarm(0)
        os.write(report, str(result).encode())
    os.write(report, b"m%d\n" % (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))
    os._exit(0)


def run_all(kind: str, first: int, count: int, limit_s: int) -> tuple[Counter[str], int, float]:
    """Runs cases in children.

    Returns:
        How many ended how, the children's highest peak memory in MiB, and the longest a child took for a case on
        average, in seconds.
    """
    results: Counter[str] = Counter()
    peak_mib, slowest_s = 0, 0.0
    number, end = first, first + count
    while number < end:
        last = min(end, number + BLOCK)
        reader, writer = os.pipe()
        started = time.monotonic()
        process = os.fork()
        if process == 0:
            os.close(reader)
            child(kind, number, last, limit_s, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            reported = pipe.read()
        _, status = os.waitpid(process, 0)
        codes, _, memory = reported.partition(b"m")
        done = codes.count(b"s")
        for code, name in ((b"0", "read"), (b"1", "refused"), (b"2", "strange")):
            results[name] += codes.count(code)
        slowest_s = max(slowest_s, (time.monotonic() - started) / max(1, done))
        peak_mib = max(peak_mib, int(memory or 0))
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            results["hung" if name == "SIGALRM" else f"crashed ({name})"] += 1
            print(f"{kind}:{number + done - 1}: {name}", file=sys.stderr)
        elif os.WEXITSTATUS(status):
            raise SystemExit("a child failed")
        number += done
    return results, peak_mib, slowest_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--zips", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the first case's number")
    parser.add_argument("--limit", type=int, default=10, help="seconds for a case")
    parser.add_argument("--memory", type=int, default=1536, help="MiB for a child")
    parser.add_argument("--only", help="one case, here and now: picture:123")
    chosen = parser.parse_args()
    if chosen.only:
        kind, number = chosen.only.split(":")
        make, run = KINDS[kind]
        print(("read", "refused", "strange")[run(mutated(make(), int(number)))])
        return 0
    failed = False
    for kind, count in (("picture", chosen.images), ("zip", chosen.zips)):
        results, peak_mib, slowest_s = run_all(kind, chosen.first, count, chosen.limit)
        bad = set(results) - {"read", "refused"}
        failed |= any(results[name] for name in bad) or peak_mib > chosen.memory
        counts = ", ".join(f"{number} {name}" for name, number in results.items() if number)
        print(f"{kind}: {count} cases: {counts}; peak {peak_mib} MiB, at most {1000 * slowest_s:.0f} ms a case")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
