"""What a Prefect server must know of us: work pool, deployments, limits, and automations; installing twice changes nothing."""

import hashlib
import json
import subprocess
import sys
from datetime import timedelta
from typing import Any, Final, cast
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.types.entrypoint import EntrypointType
from pydantic import SecretStr

from mrtai.values.site import Site
from workflows.cohort import recompute
from workflows.dose_cycle import GPU, dose_cycle

POOL: Final = "mrtai"
DEPLOYMENT: Final = "site"
DOSE_CYCLE: Final = f"{dose_cycle.name}/{DEPLOYMENT}"
RECOMPUTE: Final = f"{recompute.name}/{DEPLOYMENT}"
HEARTBEAT: Final = "prefect.flow-run.heartbeat"
ENDS: Final = ("Completed", "Failed", "Cancelled", "Crashed", "Suspended", "Paused")
SILENT_S: Final = 90
"""Three heartbeats: a run that is silent for so long has died with its worker."""
WEBHOOK_BODY: Final = json.dumps({key: f"{{{{ event.payload.{key} }}}}" for key in ("case", "study", "state", "detail")})


def install(site: Site) -> None:
    """Bring the server to what this version of us needs."""
    with get_client(sync_client=True) as client:
        _pool(client)
        client.upsert_global_concurrency_limit_by_name(GPU, site.gpu_slots)
        for flow in (dose_cycle, recompute):
            _deploy(flow)
        _automate(client, _dead_runs())
        if site.notify is not None:
            _automate(client, _notification(site.notify.url))


def _deploy(flow: Flow[Any, Any]) -> None:
    # by module, so that a worker finds the flow wherever the package is installed
    deployment = RunnerDeployment.from_flow(flow, DEPLOYMENT, work_pool_name=POOL, entrypoint_type=EntrypointType.MODULE_PATH)
    deployment.apply()


def deployment_id(client: SyncPrefectClient, name: str) -> UUID:
    """Return a deployment's ID."""
    return client.read_deployment_by_name(name).id


def deployment_id_of(name: str) -> UUID:
    """Return a deployment's ID on the site's server."""
    with get_client(sync_client=True) as client:
        return deployment_id(client, name)


def _pool(client: SyncPrefectClient) -> None:
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        # the command fills in the job template of a process pool; where another process was first it fails, which is as good
        subprocess.run(
            [sys.executable, "-m", "prefect", "work-pool", "create", POOL, "--type", "process"], capture_output=True, check=False
        )
        client.read_work_pool(POOL)


def _automate(client: SyncPrefectClient, wanted: Automation) -> None:
    """Leave an automation that is as wanted: one made anew would forget the runs whose heartbeats it waits for."""
    wanted.description = f"mrtai {_sha256(wanted)}"
    found = client.read_automations_by_name(wanted.name)
    kept = next((one for one in found if one.description == wanted.description), None)
    for one in found:
        if one is not kept:
            client.delete_automation(one.id)
    if kept is None:
        wanted.create()


def _sha256(automation: Automation) -> str:
    def plain(value: object) -> object:
        return sorted(value) if isinstance(value, set) else str(value)

    return hashlib.sha256(json.dumps(automation.model_dump(), sort_keys=True, default=plain).encode()).hexdigest()


def _dead_runs() -> Automation:
    """Runs whose process died together with its worker are marked as crashed: nobody else would notice."""
    trigger = EventTrigger(
        after={HEARTBEAT, "prefect.flow-run.Running"},  # it may die before its first heartbeat
        expect={HEARTBEAT, *(f"prefect.flow-run.{end}" for end in ENDS)},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENT_S),
    )
    action = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=f"no heartbeat for {SILENT_S} s", force=True)
    return Automation(name="mrtai-dead-runs", trigger=trigger, actions=[action])


def _notification(url: str) -> Automation:
    """A case or study that needs a person is told to the site's webhook: pseudonym, state and code only."""
    block = Webhook(method="POST", url=SecretStr(url), allow_private_urls=True)
    block_id = cast(UUID, block.save("mrtai-notify", overwrite=True))
    trigger = EventTrigger(
        expect={"mrtai.case.held", "mrtai.case.failed", "mrtai.case.draft", "mrtai.study.held"},
        match={"prefect.resource.id": ["mrtai.case.*", "mrtai.study.*"]},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
    return Automation(name="mrtai-notify", trigger=trigger, actions=[CallWebhook(block_document_id=block_id, payload=WEBHOOK_BODY)])
