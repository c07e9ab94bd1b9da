"""Forms of staff's pages: shape and cleaning; the operations write."""

from __future__ import annotations

from typing import Any

from django import forms

from scaling import targets
from scaling.autoscaler import COLUMN, POLICY_FIELDS
from scaling.balancer import Strategy
from scaling.models import Balancer, Group, Node
from scaling.policy import Kind, Policy

# The form's order: what everyone sets first, what hardly anyone touches last.
POLICY_COLUMNS = [COLUMN.get(field, field) for field in POLICY_FIELDS]
KINDS = {
    Kind.TARGET_TRACKING: "Target tracking: follows the load",
    Kind.THRESHOLD: "Threshold: one step at a time",
}
LABELS = {
    "policy_type": "Policy",
    "min_size": "Size, at least",
    "max_size": "Size, at most",
    "scale_up_cpu_threshold": "Grow above this share of CPU",
    "scale_down_cpu_threshold": "Shrink below this share of CPU",
    "scale_up_memory_threshold": "Grow above this share of memory",
    "scale_down_memory_threshold": "Shrink below this share of memory",
    "target_utilisation": "Share in use to aim for",
    "target_backlog_seconds": "Backlog (seconds)",
    "cooldown_seconds": "Cool-down (seconds)",
    "violations": "Samples in a row",
    "up_window_seconds": "Window for growing (seconds)",
    "down_window_seconds": "Window for shrinking (seconds)",
    "step": "Largest step",
}
STRATEGIES = {
    Strategy.ROUND_ROBIN: "Round robin: in turn",
    Strategy.WEIGHTED_ROUND_ROBIN: "Weighted round robin: in turn, by weight",
    Strategy.LEAST_CONNECTIONS: "Least connections: who has least in flight",
    Strategy.LEAST_RESPONSE_TIME: "Least response time: who answers fastest",
    Strategy.POWER_OF_TWO: "Power of two: the freer of two at random",
    Strategy.IP_HASH: "IP hash: the same node for the same client",
    Strategy.RANDOM: "Random",
}
HINTS = {
    "target_utilisation": "Target tracking aims for this share of use, 0 to 1.",
    "target_backlog_seconds": "What waits should be done within this time.",
    "tolerance": "No change while the load is this close to the target.",
    "down_window_seconds": "Only take away what was not needed for this long.",
    "up_window_seconds": "Only add what was needed for this long.",
    "violations": "Threshold: so many in a row change the size.",
    "cooldown_seconds": "Threshold: wait this long after a change.",
    "step": "At most this many at once. Empty: one for threshold, doubling for target tracking.",
}


class NodeForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Node
        fields = ["name", "role", "region", "weight", "beat_seconds"]
        labels = {"beat_seconds": "Heartbeat (seconds)"}
        help_texts = {
            "weight": "Its share of the balancers' picks; 0 gets none.",
            "beat_seconds": "How often it reports.",
        }


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    """A group; what it scales is chosen once, among what is registered."""

    target = forms.ChoiceField(help_text="What is scaled.")
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    field_order = ["name", "target", *POLICY_COLUMNS, "version"]

    class Meta:
        model = Group
        fields = ["name", *POLICY_COLUMNS]
        labels = LABELS
        help_texts = HINTS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["policy_type"].choices = list(KINDS.items())
        if self.instance._state.adding:
            self.fields["target"].choices = _choices()
            return
        del self.fields["target"]
        self.fields["version"].initial = self.instance.version

    def chosen_target(self) -> tuple[str, str]:
        target_type, _, target_id = self.cleaned_data["target"].partition(":")
        return target_type, target_id

    def policy(self) -> Policy:
        return Policy(**{field: self.cleaned_data[COLUMN.get(field, field)] for field in POLICY_FIELDS})


def _choices() -> list[tuple[str, str]]:
    return [
        (f"{target_type}:{target_id}", f"{label}: {name}")
        for target_type, label in targets.types()
        for target_id, name in targets.find(target_type).choices()
    ]


class BalancerForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Balancer
        fields = ["name", "strategy", "role", "region"]
        help_texts = {"role": "Only nodes of this role.", "region": "Only nodes of this region."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["strategy"].choices = list(STRATEGIES.items())
