from __future__ import annotations

from fer_deploy.video.tracking import KEPT_S, Tracks


def box(x: float, y: float = 50, size: float = 40) -> tuple[float, float, float, float]:
    return x, y, size, size


def test_a_face_that_moves_stays_one_track_and_a_far_one_is_another() -> None:
    tracks = Tracks()
    assert [tracks.follow(n / 2, [box(10 + 15 * n), box(250)]) for n in range(6)] == [[0, 1]] * 6
    assert tracks.follow(3.0, [box(250), box(100)]) == [1, 0]
    assert tracks.follow(3.5, [box(250), box(400)]) == [1, 2]


def test_a_small_face_may_move_by_its_own_width() -> None:
    tracks = Tracks()
    assert [tracks.follow(n / 2, [box(20 + 30 * n, size=28)]) for n in range(5)] == [[0]] * 5


def test_faces_that_cross_keep_their_tracks() -> None:
    tracks = Tracks()
    for n in range(21):  # they pass through each other at n = 10, half a face high apart
        assert tracks.follow(n / 10, [box(20 + 8 * n, 50), box(180 - 8 * n, 65)]) == [0, 1]


def test_a_face_that_is_covered_for_a_moment_goes_on() -> None:
    tracks = Tracks()
    for n in range(4):
        tracks.follow(n / 5, [box(20 + 10 * n)])
    assert tracks.follow(0.8, []) == []
    assert tracks.follow(1.0, [box(20 + 10 * 5)]) == [0]


def test_a_face_that_was_away_for_longer_begins_a_track_and_the_old_one_is_forgotten() -> None:
    tracks = Tracks()
    tracks.follow(0, [box(20)])
    for n in range(1, 5):
        tracks.follow(n * KEPT_S / 3, [])
    assert tracks.alive == set()
    assert tracks.follow(2 * KEPT_S, [box(20)]) == [1]
    assert tracks.started == 2


def test_rare_pictures_are_joined_too() -> None:
    tracks = Tracks()
    assert [tracks.follow(10.0 * n, [box(20 + n)]) for n in range(5)] == [[0]] * 5


def test_each_face_has_a_track_of_its_own() -> None:
    tracks = Tracks()
    assert tracks.follow(0, [box(20), box(22)]) == [0, 1]
    assert sorted(tracks.follow(0.5, [box(21), box(21), box(21)])) == [0, 1, 2]
