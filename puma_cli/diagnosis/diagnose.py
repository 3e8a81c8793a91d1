"""Examining an installation: what is there, and what would go wrong."""

from __future__ import annotations

from dataclasses import dataclass

from puma_cli.diagnosis.findings import BAD, Finding
from puma_cli.diagnosis.machine import examine_machine
from puma_cli.diagnosis.packages import examine_optional, examine_packages
from puma_cli.diagnosis.self_test import examine_model
from puma_cli.progress import SILENT, Reporter


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What is wrong."""
        return tuple(finding for finding in self.findings if finding.state == BAD)


def diagnose(device: str = "auto", reporter: Reporter = SILENT) -> Diagnosis:
    """Look at packages, machine and devices, and let puma-mini embed something.

    Args:
        device: where the model runs.
    """
    packages = tuple(examine_packages())
    reporter.note("Importing the optional packages, each in a process of its own.")
    optional = tuple(examine_optional())
    machine = tuple(examine_machine())
    reporter.note("Letting puma-mini embed a text and images.")
    return Diagnosis((*packages, *optional, *machine, *examine_model(device)))
