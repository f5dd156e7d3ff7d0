"""Draws the faces in ``samples/drawn/`` and ``samples/faces.zip``: nobody's, so that they may be shipped.

Run it with ``python samples/draw.py``; it needs Pillow only, and gives the same pictures every time.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

HERE = Path(__file__).parent
SIDE = 480
"""Side of the canvas in pixels; all positions below are on it. The face's middle is at x = 240."""

Colour = tuple[int, int, int]
Point = tuple[float, float]
Draw = Callable[[ImageDraw.ImageDraw], None]


@dataclass(frozen=True)
class Face:
    """A face and its expression; 0 is at rest, lengths are pixels of the canvas.

    Args:
        brow_inner: How much the inner ends of the brows are raised.
        brow_outer: How much the outer ends are raised.
        eye: Opening of the eyes, half its height.
        smile: How much the corners of the mouth are raised.
        jaw: Opening of the mouth.
        width: Half the width of the mouth.
        teeth: Whether they show.
        frown: Darkness of the folds between the brows, 0 to 255.
        cheeks: Darkness of the folds from nose to mouth, 0 to 255.
        nose: Darkness of the wrinkles on the nose, 0 to 255.
        skin: Its colour, and ``hair`` and ``back`` theirs.
        long_hair: Whether it falls down beside the face.
    """

    brow_inner: float = 0
    brow_outer: float = 0
    eye: float = 13
    smile: float = 0
    jaw: float = 0
    width: float = 58
    teeth: bool = False
    frown: int = 0
    cheeks: int = 50
    nose: int = 0
    skin: Colour = (214, 170, 142)
    hair: Colour = (62, 44, 34)
    back: Colour = (150, 158, 166)
    long_hair: bool = False


NEUTRAL = Face()
HAPPY = Face(brow_inner=8, brow_outer=6, eye=9, smile=26, jaw=40, width=84, teeth=True, cheeks=150)
SAD = Face(brow_inner=20, brow_outer=-12, eye=9, smile=-24, width=54, cheeks=100, frown=70)
SURPRISED = Face(brow_inner=30, brow_outer=30, eye=23, jaw=86, width=38, cheeks=40)
ANGRY = Face(
    brow_inner=-24, brow_outer=12, eye=10, smile=-14, jaw=26, width=62, teeth=True, frown=190, cheeks=130, nose=60
)
AFRAID = Face(brow_inner=30, brow_outer=8, eye=22, smile=-14, jaw=34, width=66, teeth=True, frown=90, cheeks=60)
DISGUSTED = Face(brow_inner=-16, brow_outer=-4, eye=6, smile=-18, jaw=12, width=56, frown=130, cheeks=180, nose=200)


def shaded(colour: Colour, factor: float) -> Colour:
    """Makes a colour darker (below 1) or lighter (above)."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


class Canvas:
    """A picture on which soft shapes are laid over each other, within the outline of the face where wanted."""

    def __init__(self, back: Colour) -> None:
        self.image = Image.new("RGB", (SIDE, SIDE), back)
        self.outline: Image.Image | None = None

    def lay(self, colour: Colour, draw: Draw, *, blur: float = 1.5, opacity: int = 255, inside: bool = False) -> None:
        """Lays one shape: ``draw`` draws it in white on black, ``blur`` softens its edge."""
        mask = Image.new("L", (SIDE, SIDE))
        draw(ImageDraw.Draw(mask))
        mask = mask.filter(ImageFilter.GaussianBlur(blur)).point(lambda value: value * opacity // 255)
        if inside and self.outline is not None:
            mask = ImageChops.multiply(mask, self.outline)
        self.image.paste(colour, (0, 0), mask)

    def keep_inside(self, draw: Draw) -> None:
        """Sets the outline of the face."""
        self.outline = Image.new("L", (SIDE, SIDE))
        draw(ImageDraw.Draw(self.outline))
        self.outline = self.outline.filter(ImageFilter.GaussianBlur(2))


def curve(start: Point, control: Point, end: Point, steps: int = 24) -> list[Point]:
    """Gives points on a quadratic Bezier curve."""
    points = []
    for step in range(steps + 1):
        t = step / steps
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
        points.append((a * start[0] + b * control[0] + c * end[0], a * start[1] + b * control[1] + c * end[1]))
    return points


def arch(start: Point, control: Point, end: Point, steps: int = 24) -> list[Point]:
    """Gives points on half an ellipse: as high as the Bezier curve, but round at its ends."""
    angles = [math.pi * step / steps for step in range(steps + 1)]
    middle, half, height = (start[0] + end[0]) / 2, (start[0] - end[0]) / 2, (control[1] - start[1]) / 2
    return [(middle + half * math.cos(angle), start[1] + height * math.sin(angle)) for angle in angles]


def stroke(points: Sequence[Point], widths: Sequence[float]) -> Draw:
    """Draws a line whose width runs through ``widths`` from start to end."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for index, (x, y) in enumerate(points):
            place = index / (len(points) - 1) * (len(widths) - 1)
            low = min(int(place), len(widths) - 2)
            radius = (widths[low] + (widths[low + 1] - widths[low]) * (place - low)) / 2
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), 255)

    return draw


def ellipse(x: float, y: float, rx: float, ry: float) -> Draw:
    """Draws a filled ellipse."""
    return lambda pen: pen.ellipse((x - rx, y - ry, x + rx, y + ry), 255)


def polygon(points: Sequence[Point]) -> Draw:
    """Draws a filled polygon."""
    return lambda pen: pen.polygon(list(points), 255)


def head(canvas: Canvas, face: Face) -> None:
    """Draws hair, ears, neck and the face's outline with its light from the upper left."""
    skin, dark = face.skin, shaded(face.skin, 0.62)
    chin = 448 + face.jaw * 0.25
    if face.long_hair:
        canvas.lay(face.hair, ellipse(240, 262, 206, 252), blur=4)
    canvas.lay(shaded(skin, 0.7), polygon([(160, 380), (320, 380), (340, 480), (140, 480)]), blur=6)
    canvas.lay(face.hair, ellipse(240, 196, 192, 186), blur=3)
    for side in (-1, 1):
        canvas.lay(shaded(skin, 0.85), ellipse(240 + side * 172, 250, 20, 42), blur=3)
    outline = [
        *curve((74, 190), (92, 8), (240, 20)), *curve((240, 20), (388, 8), (406, 190)),
        *curve((406, 190), (410, 330), (330, 410)), *curve((330, 410), (285, chin + 6), (240, chin)),
        *curve((240, chin), (195, chin + 6), (150, 410)), *curve((150, 410), (70, 330), (74, 190)),
    ]  # fmt: skip
    canvas.keep_inside(polygon(outline))
    canvas.lay(skin, polygon(outline), blur=2)
    canvas.lay(dark, stroke(outline[40:100], (60, 90, 60)), blur=32, opacity=170, inside=True)
    canvas.lay(dark, stroke(outline[100:], (40, 60, 40)), blur=26, opacity=110, inside=True)
    canvas.lay(shaded(skin, 1.18), ellipse(200, 130, 90, 50), blur=32, opacity=160, inside=True)
    for side in (-1, 1):
        canvas.lay(shaded(skin, 1.14), ellipse(240 + side * 92, 292, 42, 30), blur=18, opacity=150, inside=True)
        canvas.lay(dark, ellipse(240 + side * 78, 205, 56, 30), blur=18, opacity=90, inside=True)
    fringe = [(60, 210), *curve((72, 170), (120, 70), (250, 84)), *curve((250, 84), (370, 70), (408, 180)), (425, 200)]
    canvas.keep_inside(ellipse(240, 196, 192, 186))
    canvas.lay(face.hair, polygon([*fringe, (440, 0), (40, 0)]), blur=5, inside=True)
    shine = stroke(curve((120, 76), (220, 22), (340, 66)), (8, 30, 8))
    canvas.lay(shaded(face.hair, 1.7), shine, blur=14, opacity=120, inside=True)


def eyes(canvas: Canvas, face: Face) -> None:
    """Draws eyes and brows."""
    dark = shaded(face.skin, 0.42)
    for side in (-1, 1):
        x, y, half = 240 + side * 78, 214, face.eye
        upper = curve((x - 38, y + 3), (x, y - 2 * half), (x + 38, y + 3))
        lower = curve((x + 38, y + 3), (x, y + 1.7 * half), (x - 38, y + 3))
        canvas.lay((236, 232, 228), polygon([*upper, *lower]), blur=1)
        lens = Canvas((0, 0, 0))
        lens.keep_inside(polygon([*upper, *lower]))
        canvas.outline, whole = lens.outline, canvas.outline
        canvas.lay((66, 48, 36), ellipse(x, y - 1, 15, 15), blur=1.2, inside=True)
        canvas.lay((8, 8, 8), ellipse(x, y - 1, 7, 7), blur=1, inside=True)
        canvas.lay((255, 255, 255), ellipse(x - 5, y - 6, 3, 3), blur=1, inside=True)
        canvas.lay((70, 60, 56), stroke(upper, (6, 12, 6)), blur=4, opacity=150, inside=True)
        canvas.outline = whole
        canvas.lay(shaded(dark, 0.5), stroke(upper, (4, 7, 5)), blur=1.2)
        canvas.lay(dark, stroke(lower, (2, 4, 2)), blur=1.5, opacity=150)
        fold = curve((x - 36, y - 8), (x, y - 2 * half - 14), (x + 36, y - 8))
        canvas.lay(dark, stroke(fold, (2, 4, 2)), blur=2, opacity=130)
        canvas.lay(
            dark, stroke(curve((x - 34, y + 18), (x, y + 22 + half), (x + 34, y + 16)), (2, 6, 2)), blur=5, opacity=90
        )
        inner, outer = (240 + side * 30, 172 - face.brow_inner), (240 + side * 132, 170 - face.brow_outer)
        middle = (240 + side * 92, 146 - (face.brow_inner + face.brow_outer) / 2)
        canvas.lay(shaded(face.hair, 0.8), stroke(curve(inner, middle, outer), (17, 16, 6)), blur=2.5)


def nose(canvas: Canvas, face: Face) -> None:
    """Draws the nose and the folds around it."""
    dark, light = shaded(face.skin, 0.5), shaded(face.skin, 1.22)
    canvas.lay(dark, stroke(curve((262, 190), (272, 250), (280, 292)), (4, 16, 12)), blur=10, opacity=120)
    canvas.lay(light, stroke(curve((240, 180), (238, 240), (238, 286)), (8, 14, 24)), blur=8, opacity=170)
    canvas.lay(dark, stroke(curve((200, 302), (240, 330), (280, 302)), (8, 10, 8)), blur=6, opacity=150)
    for side in (-1, 1):
        canvas.lay(shaded(face.skin, 0.22), ellipse(240 + side * 19, 308, 9, 5), blur=2.5, opacity=220)
        canvas.lay(
            dark,
            stroke(curve((240 + side * 38, 286), (240 + side * 48, 302), (240 + side * 34, 314)), (3, 6, 3)),
            blur=3,
        )
        corner = (240 + side * (face.width + 20), 366 - face.smile)
        fold = curve((240 + side * 46, 296), (240 + side * (face.width + 18), 310), corner)
        canvas.lay(dark, stroke(fold, (4, 9, 4)), blur=4, opacity=face.cheeks)
        crease = curve((240 + side * 12, 188), (240 + side * 15, 166), (240 + side * 9, 148))
        canvas.lay(shaded(dark, 0.7), stroke(crease, (3, 7, 3)), blur=2.5, opacity=face.frown)
        for step in range(3):
            wrinkle = curve(
                (240 + side * 6, 206 + 14 * step),
                (240 + side * 22, 208 + 14 * step),
                (240 + side * 36, 222 + 14 * step),
            )
            canvas.lay(dark, stroke(wrinkle, (3, 5, 2)), blur=2, opacity=face.nose)


def mouth(canvas: Canvas, face: Face) -> None:
    """Draws lips, teeth and what is between them."""
    lip = (shaded(face.skin, 0.72)[0], shaded(face.skin, 0.5)[1], shaded(face.skin, 0.5)[2])
    y, half, jaw = 368.0, face.width, face.jaw
    left, right = (240 - half, y - face.smile), (240 + half, y - face.smile)
    bow = curve if face.teeth or not jaw else arch
    top = bow(left, (240, y - 8 + face.smile * 0.35 - jaw * 0.3), right)
    bottom = bow(right, (240, y + 8 + face.smile * 0.55 + jaw * 1.5), left)
    canvas.lay(shaded(face.skin, 0.55), ellipse(240, y + 34 + jaw * 0.75, half * 0.6, 9), blur=8, opacity=140)
    canvas.lay(lip, stroke(bottom, (5, 19, 5)), blur=2.5)
    canvas.lay(shaded(lip, 0.85), stroke(top, (5, 14, 5)), blur=2.5)
    if jaw > 5:
        canvas.lay((44, 18, 18), polygon([*top, *bottom]), blur=2)
        if face.teeth:
            edge = [(px, py + min(jaw * 0.55, 24) * (1 - abs(px - 240) / half) ** 0.5) for px, py in reversed(top)]
            canvas.lay((240, 236, 226), polygon([*top, *edge]), blur=1.5)
        else:
            canvas.lay((150, 70, 70), ellipse(240, y + jaw * 0.62, half * 0.55, jaw * 0.16), blur=6, opacity=190)
    else:
        canvas.lay(shaded(lip, 0.4), stroke(top, (4, 5, 4)), blur=1.5)
    for x, corner in (left, right):
        canvas.lay(shaded(face.skin, 0.35), ellipse(x, corner, 5, 4), blur=3, opacity=200)


def draw_face(face: Face, side: int, *, gray: bool = False) -> Image.Image:
    """Draws a face as a square picture of ``side`` pixels."""
    canvas = Canvas(face.back)
    for part in (head, nose, eyes, mouth):
        part(canvas, face)
    image = canvas.image.resize((side, side), Image.Resampling.LANCZOS)
    return image.convert("L") if gray else image


def main() -> None:
    """Writes all drawn samples."""
    brown, pale, dark = (150, 104, 78), (232, 196, 172), (104, 70, 54)
    drawn = HERE / "drawn"
    drawn.mkdir(exist_ok=True)
    draw_face(HAPPY, 160).save(drawn / "happy.jpg", quality=88)
    draw_face(replace(SAD, skin=pale, hair=(120, 84, 48), long_hair=True), 128).save(drawn / "sad.png")
    draw_face(replace(SURPRISED, skin=brown, back=(206, 206, 200)), 200).save(drawn / "surprise.jpg", quality=85)
    draw_face(replace(ANGRY, hair=(30, 28, 28), back=(90, 92, 98)), 48, gray=True).save(drawn / "angry.png")
    (drawn / "more").mkdir(exist_ok=True)
    draw_face(replace(NEUTRAL, skin=dark, hair=(22, 18, 18)), 96, gray=True).save(drawn / "more/neutral.png")
    with zipfile.ZipFile(HERE / "faces.zip", "w") as archive:
        for name, face in (
            ("fear.png", replace(AFRAID, skin=pale, hair=(150, 70, 40), long_hair=True)),
            ("disgust.png", replace(DISGUSTED, skin=brown, hair=(40, 30, 26), back=(120, 128, 120))),
        ):
            content = io.BytesIO()
            draw_face(face, 112).save(content, "PNG")
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content.getvalue())


if __name__ == "__main__":
    main()
