"""``python -m workflows``: what a department starts."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from rich.console import Console

from mrtai.cli.arguments import positive_number, spoken
from mrtai.cli.outcome import DONE, FAULT, REFUSED, OneLineParser, ended
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site
from workflows import settings
from workflows.faults import where_of

PRIVATE: Final = 0o027
"""What came in carries identities: nobody but the service's user and group reads it."""

EPILOGUE: Final = """a department on one machine:
  python -m workflows check-config      # is mrtai.toml right? (a commented example: mrtai/data/examples/mrtai.toml)
  python -m workflows serve             # server, worker, receiver, inbox; stop with Ctrl-C or SIGTERM
  python -m workflows status            # what runs, what waits for a person
  python -m workflows sign CASE --by "A. Physicist"
  python -m workflows release CASE      # DICOM, proven, to the archive

Research use only. Not a medical device. Decision support under a qualified person.
"""


def main() -> int:
    """Run one command and return its exit status: 0 done, 2 refused or held (one line says why), 1 a fault or an unhealthy site."""
    options = _parser(as_json="--json" in sys.argv[1:]).parse_args()
    os.umask(PRIVATE)
    # libraries speak at lower levels of what they read, which may be a patient's
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for name in ("mrtai", "workflows"):
        logging.getLogger(name).setLevel(logging.INFO)
    return ended(lambda: int(options.command(options)), as_json=getattr(options, "json", False), words=_words)


def _words(fault: BaseException) -> str:
    """Return a fault as it may be logged: a database that is away says itself what to do, a library's message may quote a header."""
    from mrtai.io.ledger import LedgerAway

    return str(fault) if isinstance(fault, LedgerAway) else where_of(fault)


def _parser(*, as_json: bool = False) -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m workflows",
        description="Flows of a department around mrtai. The site is described by mrtai.toml here, or by the file that MRTAI_CONFIG names.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        as_json=as_json,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add(commands, "serve", _serve, "everything on this machine: Prefect's server, a worker, the DICOM receiver, the inbox")
    _add(commands, "worker", _worker, "one more worker; PREFECT_API_URL names the server")
    _add(commands, "receive", _receive, "the DICOM receiver alone")
    _add(commands, "inbox", _inbox, "the inbox alone: assigns complete studies and starts runs")
    _add_submit(commands)
    _add_status(commands)
    _add_audit(commands)
    _add(commands, "check-config", _check_config, "read mrtai.toml and say what it means")
    _add_decisions(commands)
    _add_cohort(commands)
    demo = _add(commands, "demo", _demo, "a simulated patient, received scan by scan and worked up on an embedded server")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder of the demo's site (default demo)")
    return parser


def _add(commands: Any, name: str, command: Any, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
    parser.set_defaults(command=command)
    return parser


def _add_submit(commands: Any) -> None:
    submit = _add(commands, "submit", _submit, "take a folder of DICOM files in, or have a case computed again")
    submit.add_argument("what", metavar="STUDY|CASE", help="a folder of DICOM files, or a case of `status` (its ID or its folder)")
    submit.add_argument("--study", dest="study_toml", type=Path, metavar="study.toml", help="what a person states: activity, time, scans")
    submit.add_argument("--labels", type=Path, metavar="FILE", help="contours for a case: a label map with its JSON of names beside it")
    submit.add_argument("--replace", action="store_true", help="images that came again with other content replace the first ones")
    submit.add_argument("--identity-checked", action="store_true", help="a person has checked whose the study is")


def _add_status(commands: Any) -> None:
    status = _add(commands, "status", _status, "what runs, where the cases stand, what waits for a person")
    status.add_argument("--json", action="store_true", help="the same as one JSON object")


def _add_audit(commands: Any) -> None:
    audit = _add(commands, "audit", _audit, "every move of every case, with who and why, and whether the chain is whole")
    audit.add_argument("case", nargs="?", metavar="CASE", help="one case of `status` alone: its ID or its folder")
    audit.add_argument("--json", action="store_true", help="the same as one JSON object")


def _add_decisions(commands: Any) -> None:
    sign = _add(commands, "sign", _sign, "sign a draft")
    reject = _add(commands, "reject", _reject, "reject a draft, or a held, failed or signed case")
    release = _add(commands, "release", _release, "write a signed case as DICOM, prove it and send it to its rule's target")
    for parser in (sign, reject, release):
        parser.add_argument("case", metavar="CASE", help="a case of `status`: its ID or its folder")
    for parser in (sign, reject):
        parser.add_argument("--by", required=True, type=spoken, metavar="NAME", help="who answers for it")
    reject.add_argument("--reason", required=True, type=spoken, metavar="TEXT", help="why, without the patient's name")


def _add_cohort(commands: Any) -> None:
    cohort = _add(commands, "cohort", _cohort, "compute many cases again into a result set of their own, on all workers")
    cohort.add_argument("--set", dest="result_set", required=True, metavar="NAME", help="name of the result set; calling again goes on")
    cohort.add_argument("--protocol", metavar="P", help="instead of the cases' own")
    cohort.add_argument("--kinetics", metavar="M", help="instead of the protocol's")
    cohort.add_argument("--engine", metavar="E", help="instead of the protocol's")
    cohort.add_argument(
        "--against",
        metavar="PLACE",
        help="compare the set at the end: with a CSV, CASE folders, DICOM exports, or `drafts`, its own",
    )
    cohort.add_argument("--regions", type=Path, metavar="FILE", help="with --against: region names, as of `mrtai validate`")
    cohort.add_argument("--margin", type=positive_number, metavar="M", help="with --against: of equivalence, instead of the protocol's")
    cohort.add_argument("cases", nargs="*", metavar="CASE", help="cases of `status` (default: all that have a draft)")


def _serve(_: argparse.Namespace) -> int:
    site = settings.apply_site()
    from workflows import serve

    return serve.run(site)


def _worker(_: argparse.Namespace) -> int:
    site = settings.apply_site()
    from workflows import worker  # Prefect reads its settings when it is imported

    worker.run(site)
    return DONE


def _receive(_: argparse.Namespace) -> int:
    site = settings.apply_site()
    from workflows import receive

    receive.serve(site)
    return DONE


def _inbox(_: argparse.Namespace) -> int:
    site = settings.apply_site()
    from workflows import inbox

    inbox.serve(site)
    return DONE


def _submit(options: argparse.Namespace) -> int:
    site = settings.apply_site()
    from mrtai.io.assignment import Assigner
    from mrtai.io.code_version import code_sha256
    from mrtai.io.ledger import open_ledger
    from mrtai.io.pseudonym import load_key
    from mrtai.values.ledger import StudyState
    from workflows import decide, submit

    with open_ledger(site.database) as ledger:
        assigner = Assigner(site, ledger, load_key(), code_sha256())
        folder = Path(options.what)
        if folder.is_dir() and not decide.is_case(site, folder):
            if options.labels:
                raise _unused("--labels", "a folder of DICOM files", "submit the folder, then its case with --labels")
            choices = {"study_toml": options.study_toml, "replace": options.replace, "identity_checked": options.identity_checked}
            studies = submit.submit_study(site, assigner, folder, **choices)
            for study in studies:
                line = f"study {study.key[:8]}: {study.state} {study.case_id or ''} {study.reason or ''}".strip()
                _say(line, sys.stderr if study.state is StudyState.HELD else sys.stdout)
            return REFUSED if any(study.state is StudyState.HELD for study in studies) else DONE
        case = decide.case_id(site, options.what)
        if options.identity_checked:
            raise _unused("--identity-checked", "a case", "submit the folder of the study that is held")
        files = {"study_toml": options.study_toml, "labels": options.labels, "replace": options.replace}
        _say(f"{submit.submit_case(site, ledger, assigner, case, **files).id}: computed again at the inbox's next look")
    return DONE


def _unused(option: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError("this option is not used here", where=option, found=found, remedy=remedy, code="UNUSED_OPTION")


def _status(options: argparse.Namespace) -> int:
    site = settings.apply_site()
    from workflows import status

    told = status.status(site)
    if options.json:
        _say(json.dumps(told))
    else:
        status.show(told, Console())
    return DONE if told["well"] else FAULT


def _audit(options: argparse.Namespace) -> int:
    site = settings.apply_site()
    from mrtai.io.ledger import open_ledger
    from workflows import audit, decide

    with open_ledger(site.database) as ledger:
        told = audit.audit(ledger, options.case and decide.case_id(site, options.case))
    if options.json:
        _say(json.dumps(told))
    else:
        audit.show(told, Console())
    return DONE if told["broken_at"] is None else FAULT


def _check_config(_: argparse.Namespace) -> int:
    from mrtai.io.pseudonym import load_key
    from mrtai.io.site import config_path, read_site

    site = read_site()
    load_key()
    _say(f"{config_path().name} is right.")
    for line in _told(site):
        _say(line)
    return DONE


def _told(site: Site) -> list[str]:
    lines = [
        f"everything lies in {site.root}; the ledger is {'SQLite' if site.database.startswith('sqlite') else 'PostgreSQL'}",
        f"DICOM comes in as {site.receive.ae_title} on port {site.receive.port}"
        f"{', encrypted' if site.receive.tls else ''}, from {', '.join(site.receive.allowed_ae_titles) or 'every caller'}",
        f"a study is complete after {site.quiet_s:.0f} s of quiet",
        *(f"folder {path} is watched" for path in site.watch),
        *(f"archive {poll.name} is asked every {poll.every_s:.0f} s" for poll in site.polls),
    ]
    for rule in site.rules:
        of = ", ".join(rule.descriptions) or "any description"
        target = f"released to {rule.target}" if rule.target else "no target: results stay here"
        lines.append(f"rule {rule.name}: {'/'.join(rule.modalities)}, {rule.nuclide or 'any nuclide'}, {of} -> {rule.protocol}; {target}")
    return lines if site.rules else [*lines, "no rule: nothing that comes in is worked on"]


def _sign(options: argparse.Namespace) -> int:
    site = settings.apply_site()
    from mrtai.io.ledger import open_ledger
    from workflows import decide

    with open_ledger(site.database) as ledger:
        case = decide.sign(site, ledger, decide.case_id(site, options.case), options.by)
    _say(f"{case.id}: signed")
    return DONE


def _reject(options: argparse.Namespace) -> int:
    site = settings.apply_site()
    from mrtai.io.ledger import open_ledger
    from workflows import decide

    with open_ledger(site.database) as ledger:
        case = decide.reject(site, ledger, decide.case_id(site, options.case), options.by, options.reason)
    _say(f"{case.id}: rejected")
    return DONE


def _release(options: argparse.Namespace) -> int:
    site = settings.apply_site()
    from workflows import decide

    _require_server("release")
    from prefect.exceptions import FailedRun

    from workflows.release import release

    state = release(decide.case_id(site, options.case), return_state=True)
    _say(f"{options.case}: {state.message}", sys.stdout if state.is_completed() else sys.stderr)
    if state.is_completed():
        return DONE
    why = state.result(raise_on_failure=False)
    # a refusal is a failed state without an exception of its own
    return FAULT if isinstance(why, Exception) and not isinstance(why, FailedRun) else REFUSED


def _require_server(where: str) -> None:
    from workflows.serve import server_is_up

    if not server_is_up():
        remedy = "start `python -m workflows serve`"
        raise DosimetryError("Prefect's server does not answer", where=where, found="nobody", remedy=remedy, code="NO_SERVER")


def _cohort(options: argparse.Namespace) -> int:
    for option in ("regions", "margin"):
        if options.against is None and getattr(options, option) is not None:
            raise _unused(f"--{option}", "no --against", "add --against, or leave it out")
    site = settings.apply_site()
    from mrtai.cli.progress import bar
    from mrtai.io.ledger import open_ledger
    from workflows import cohort, decide
    from workflows.install import RECOMPUTE, deployment_id_of

    cohort.set_folder(site, options.result_set)
    _require_server("cohort")
    with open_ledger(site.database) as ledger:
        named = {decide.case_id(site, one) for one in options.cases}
        cases = [case for case in ledger.cases() if (case.id in named if named else case.drafted_sha256 is not None)]
    another = cohort.Another(options.protocol, options.kinetics, options.engine)
    with bar(f"cohort {options.result_set}") as tell:
        outcome = cohort.cohort(
            site,
            cases,
            options.result_set,
            another,
            deployment_id_of(RECOMPUTE),
            lambda done, of: tell(f"{done} of {of}", done / max(of, 1)),
        )
    for case_id, said in outcome.items():
        _say(f"{case_id}: {said}", sys.stdout if _is_there(said) else sys.stderr)
    if options.against:
        folder = cohort.compared(site, options.result_set, options.against, regions=options.regions, margin=options.margin)
        _say(f"compared: {folder / 'validation.html'}")
    return DONE if all(map(_is_there, outcome.values())) else REFUSED


def _is_there(said: str) -> bool:
    return said.startswith(("completed", "computed"))


def _demo(options: argparse.Namespace) -> int:
    from workflows import demo

    return demo.run(options.out)


def _say(line: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
