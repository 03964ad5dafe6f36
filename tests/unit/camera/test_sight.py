"""Which blindness is an alarm."""

from __future__ import annotations

from camera_worker.sight import DETECTION, Sight, Sighting, SystemAlarm

SEES_A, SEES_B = Sighting("a", sees=True), Sighting("b", sees=True)


def offline(camera: str, since: float) -> Sighting:
    return Sighting(camera, blind_since=since, reason="the camera is offline")


def unanswered(camera: str, since: float) -> Sighting:
    return Sighting(camera, blind_since=since, of_detection=True, reason="The API is away.")


def told(sight: Sight) -> dict[str, bool]:
    """What the alarm store is told, which takes all of it."""
    alarms = sight.untold
    for alarm in alarms:
        sight.told(alarm)
    return {alarm.source: alarm.blind for alarm in alarms}


def seeing() -> Sight:
    """Two cameras that are scored, as the store knows."""
    sight = Sight(30)
    assert sight.step(0, [SEES_A, SEES_B]) == ()
    assert told(sight) == {"a/sight": False, "b/sight": False, DETECTION: False}
    return sight


def test_a_camera_that_is_blind_for_long_has_an_alarm_of_its_own() -> None:
    sight = seeing()
    assert sight.step(39.9, [offline("a", 10), SEES_B]) == ()
    alarm = SystemAlarm("a/sight", blind=True, reason="the camera is offline")
    assert sight.step(40, [offline("a", 10), SEES_B]) == (alarm,)
    assert sight.step(41, [offline("a", 10), SEES_B]) == ()
    assert not sight.detection_blind
    (back,) = sight.step(42, [SEES_A, SEES_B])
    assert (back.source, back.blind) == ("a/sight", False)


def test_missing_verdicts_are_one_alarm_that_names_the_cameras() -> None:
    sight = seeing()
    (alarm,) = sight.step(40, [unanswered("a", 10), unanswered("b", 11)])
    assert alarm == SystemAlarm(DETECTION, blind=True, reason="no verdict on the pictures of a, b: The API is away.")
    assert sight.detection_blind
    (back,) = sight.step(41, [SEES_A, SEES_B])
    assert (back.source, back.blind) == (DETECTION, False)
    assert not sight.detection_blind


def test_detection_does_not_come_back_because_the_cameras_go_too() -> None:
    sight = seeing()
    sight.step(40, [unanswered("a", 10), SEES_B])
    (alarm,) = sight.step(75, [offline("a", 41), offline("b", 60)])
    assert alarm.source == "a/sight"
    assert sight.detection_blind
    (back,) = sight.step(76, [offline("a", 41), SEES_B])
    assert (back.source, back.blind) == (DETECTION, False)


def test_detection_does_not_come_back_while_one_camera_has_been_unanswered_for_less() -> None:
    sight = seeing()
    sight.step(40, [unanswered("a", 10), SEES_B])
    assert sight.step(41, [SEES_A, unanswered("b", 40)]) == ()
    assert sight.detection_blind


def test_a_camera_whose_pictures_come_again_sees_though_the_api_is_away() -> None:
    sight = seeing()
    sight.step(40, [offline("a", 10), SEES_B])
    (back,) = sight.step(41, [unanswered("a", 10.0), SEES_B])[:1]
    assert (back.source, back.blind) == ("a/sight", False)


def test_a_camera_of_which_nothing_is_known_neither_raises_nor_ends_an_alarm() -> None:
    sight = Sight(30)
    assert sight.step(100, [Sighting("a")]) == ()
    assert told(sight) == {}


def test_an_alarm_of_an_earlier_process_ends_at_first_sight_without_a_word() -> None:
    sight = Sight(30)
    assert sight.step(0, [SEES_A]) == ()
    assert told(sight) == {"a/sight": False, DETECTION: False}


def test_a_camera_that_is_not_watched_any_more_is_not_blind() -> None:
    sight = seeing()
    sight.step(40, [offline("a", 10), SEES_B])
    told(sight)
    (back,) = sight.step(41, [SEES_B])
    assert back == SystemAlarm("a/sight", blind=False, reason="the camera is not watched now")
    assert told(sight) == {"a/sight": False}
    assert sight.step(42, [SEES_B]) == ()
    assert sight.step(80, [offline("a", 41), SEES_B])[0].blind


def test_detection_does_not_come_back_because_nobody_is_watched() -> None:
    sight = seeing()
    sight.step(40, [unanswered("a", 10)])
    assert sight.step(41, []) == ()
    assert sight.detection_blind
    assert sight.step(42, [Sighting("a")]) == ()
    assert [(alarm.source, alarm.blind) for alarm in sight.step(43, [SEES_A])] == [(DETECTION, False)]


def test_what_the_store_did_not_take_is_kept_and_the_newest_counts() -> None:
    sight = seeing()
    (alarm,) = sight.step(40, [offline("a", 10), SEES_B])
    assert sight.untold == (alarm,)
    sight.step(41, [SEES_A, SEES_B])
    sight.told(alarm)
    assert told(sight) == {"a/sight": False}
