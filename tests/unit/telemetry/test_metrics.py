import re

from rbdcsi.telemetry import metrics


def test_names_have_our_prefix_and_the_units_of_prometheus() -> None:
    for family in metrics.REGISTRY.collect():
        if family.name.startswith("process_"):
            continue
        assert re.fullmatch(r"rbdcsi_[a-z_]+", family.name)
        assert family.type != "histogram" or family.name.endswith("_seconds")
        assert family.documentation.endswith(".")


def test_a_counted_gauge_forgets_labels_that_are_gone() -> None:
    def shown(node: str) -> float | None:
        labels = {"cluster": "c", "node": node, "state": "staged"}
        return metrics.REGISTRY.get_sample_value("rbdcsi_attachments", labels)

    metrics.ATTACHMENTS.replace("c", {("c", "a", "staged"): 2})
    assert (shown("a"), shown("b")) == (2, None)
    metrics.ATTACHMENTS.replace("c", {("c", "b", "staged"): 1})
    assert (shown("a"), shown("b")) == (None, 1)
    metrics.ATTACHMENTS.replace("other", {})
    assert (shown("a"), shown("b")) == (None, 1)
    metrics.ATTACHMENTS.replace("c", {})
    assert (shown("a"), shown("b")) == (None, None)
