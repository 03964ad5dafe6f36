"""When a live stream counts as degraded."""

from __future__ import annotations

from camera_worker.health import StreamHealth


def test_many_damaged_pictures_degrade_a_stream_until_few_are() -> None:
    health = StreamHealth(2)
    words = [health.judge(at, 1, damaged_share=share, fps=15) for at, share in ((0, 0), (5, 0.1), (6, 0.11))]
    assert words == ["", "", "11% of its pictures are damaged"]
    assert health.judge(7, 1, damaged_share=0.07, fps=15)
    assert not health.judge(8, 1, damaged_share=0.05, fps=15)
    assert not health.judge(9, 1, damaged_share=0.07, fps=15)


def test_fewer_pictures_than_are_to_be_scored_degrade_it() -> None:
    health = StreamHealth(2)
    health.judge(0, 1, damaged_share=0, fps=0)
    assert health.judge(10, 1, damaged_share=0, fps=1.5) == "it sends 1.5 pictures a second, 2 are to be scored"
    assert health.judge(11, 1, damaged_share=0, fps=1.7)
    assert not health.judge(12, 1, damaged_share=0, fps=1.9)
    assert not health.judge(13, 1, damaged_share=0, fps=1.7)


def test_a_new_connection_is_given_time() -> None:
    health = StreamHealth(2)
    health.judge(0, 1, damaged_share=0, fps=2)
    assert health.judge(20, 1, damaged_share=0.5, fps=1)
    assert not health.judge(21, 2, damaged_share=0.5, fps=1)
    assert health.judge(24, 2, damaged_share=0.5, fps=1) == "50% of its pictures are damaged"
    assert not health.judge(30, 2, damaged_share=0, fps=1)
    assert health.judge(31, 2, damaged_share=0, fps=1)


def test_the_rate_says_nothing_when_only_key_frames_are_decoded() -> None:
    health = StreamHealth(None)
    assert not health.judge(0, 1, damaged_share=0, fps=0)
    assert not health.judge(60, 1, damaged_share=0, fps=0.1)
