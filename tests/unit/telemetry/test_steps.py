from rbdcsi.telemetry import metrics, steps


def observed(step: str) -> float:
    name = "rbdcsi_step_duration_seconds_count"
    return metrics.REGISTRY.get_sample_value(name, {"step": step}) or 0.0


def test_each_step_of_a_call_is_measured() -> None:
    with steps.timed():
        steps.done("test.first")
        steps.done("test.second")
        steps.done("test.second")
    assert (observed("test.first"), observed("test.second")) == (1, 2)


def test_outside_of_a_call_nothing_is_measured() -> None:
    steps.done("test.outside")
    assert observed("test.outside") == 0
