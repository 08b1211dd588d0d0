"""``fornix check``: everything that is wrong with a model."""

from __future__ import annotations

import click

from fornix.cli.command import MODEL


@click.command("check")
@click.argument("model")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(model: str, *, strict: bool, as_json: bool) -> None:
    """Tell everything in which MODEL breaks the ONNX standard.

    Checked are versions and opset imports, names, operators, their inputs, outputs and attributes,
    model functions, stored tensors, and types and shapes as far as they can be inferred. Findings
    name the way to their node, through subgraphs and functions.

    The exit code is 1 if there is an error; warnings alone (deprecated operators, operators of
    domains that the standard does not know) give 0, or 1 with --strict.
    """
    from fornix.check import Severity, check_model
    from fornix.cli.console import Page, echo_json, progress, styled
    from fornix.ir.files import load

    with progress("checking"):
        findings = check_model(load(model))
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    failed = bool(findings) if strict else bool(errors)
    if as_json:
        listed = [
            {"severity": str(x.severity), "subject": x.subject, "message": x.message}
            for x in findings
        ]
        echo_json({"model": model, "valid": not failed, "errors": errors, "findings": listed})
    else:
        page = Page()
        for finding in findings:
            style = "bold red" if finding.severity is Severity.ERROR else "yellow"
            head = styled(f"{finding.severity}: ", style)
            page.print(head + styled(finding.subject, "bold") + styled(f": {finding.message}"))
        page.say(model, verdict(errors, len(findings) - errors))
    if failed:
        click.get_current_context().exit(MODEL)


def verdict(errors: int, warnings: int) -> str:
    """How many findings there are, in words."""
    counts = [(errors, "error"), (warnings, "warning")]
    told = [f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts if count]
    return f"has {' and '.join(told)}" if told else "keeps to the standard"
