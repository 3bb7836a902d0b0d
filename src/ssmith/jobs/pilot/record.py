"""From the results of the stages to one receipt."""

from __future__ import annotations

from typing import Any

from ssmith.core.curve import Curve
from ssmith.core.findings import Finding
from ssmith.core.receipt import Receipt
from ssmith.evaluation import Reason, Verdict
from ssmith.jobs.pilot.cut import AUTO_WITHOUT_DATA


def nothing_fits(curve: Curve) -> Verdict:
    """Return the verdict where no cut that was tried is within tolerance."""
    text = (
        f"even the smallest cut that was tried loses more than {curve.tolerance:g} of "
        f"{curve.metric} on the {curve.split} split, or could not be measured"
    )
    return Verdict(
        accepted=False,
        headline=f"Nothing was cut: {text}",
        reasons=(Reason(gate="quality", passed=False, text=f"{text}."),),
    )


def make_receipt(
    run: dict[str, Any], about: dict[str, Any], curve: Curve, sections: dict[str, Any]
) -> Receipt:
    """Put a pilot's receipt together.

    A section that was not measured is empty; if nothing was cut there is only a verdict.
    """
    config = run["config"]
    quality = sections.get("quality", {})
    return Receipt(
        action="pilot",
        model={
            **about,
            "digest_before": run["model"]["digest"],
            "digest_after": sections.get("digest_after"),
        },
        method={
            "criterion": sections.get("criterion", {"name": config["method"]}),
            "budget": sections.get("budget", {}),
            "mode": sections.get("mode", "shrink"),
            **{name: sections[name] for name in ("refit", "recovery") if sections.get(name)},
            "max_loss": config["max_loss"],
            "command": run["command"],
            "config": config,
        },
        seed=config["seed"],
        versions=run["versions"],
        data=run["data"],
        removed=sections.get("removed", {}),
        quality=quality,
        speed=sections.get("speed", {}),
        memory=sections.get("memory", {}),
        size=sections.get("size", {}),
        parity=sections.get("parity", {}),
        saving=sections.get("saving", {}),
        verdict=sections["verdict"],
        findings=(
            *sections.get("findings", ()),
            *curve.failed(),
            *_without_data(config),
        ),
        details={"curve": curve.as_dict(), "layers": sections.get("layers", [])},
        time=sections["time"],
    )


def _without_data(config: dict[str, Any]) -> list[Finding]:
    """Say so if no method that is fitted to data could be tried."""
    if config.get("method") != AUTO_WITHOUT_DATA:
        return []
    message = (
        "the data has no train split, so only methods that need none were tried: no State-OBS and "
        "no refits, which usually remove far more"
    )
    return [Finding(layer="", kind="no-train-split", message=message)]
