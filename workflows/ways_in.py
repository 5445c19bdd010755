"""The ways in beside the receiver: watched folders and polled archives, looked at whenever the inbox looks."""

import logging
import time
from collections import Counter

from mrtai.io.dicomweb_pull import pull
from mrtai.io.pacs_link import LinkLost
from mrtai.io.received import Received
from mrtai.io.watched import Watched
from mrtai.values.site import Poll, Site

log = logging.getLogger(__name__)


class WaysIn:
    """Brings into the store what lies in watched folders and, each in its time, what archives have."""

    def __init__(self, site: Site) -> None:
        self.store = Received(site.root, site.receive.least_free_gb)
        self.watched = [Watched(folder, self.store) for folder in site.watch]
        self.due_s = dict.fromkeys(site.polls, 0.0)

    def look(self) -> None:
        """Look at every folder, and at the archives whose time has come; one that is away keeps nobody else waiting."""
        for watched in self.watched:
            _tell("watched folder", watched.look())
        for poll, due_s in self.due_s.items():
            if time.monotonic() >= due_s:
                self.due_s[poll] = time.monotonic() + poll.every_s
                self._pull(poll)

    def _pull(self, poll: Poll) -> None:
        try:
            _tell(f"archive {poll.name}", pull(poll, self.store).instances)
        except LinkLost as fault:
            log.warning("archive %s is away (%s); asked again in %.0f s", poll.name, fault, poll.every_s)


def _tell(what: str, counts: Counter[str]) -> None:
    if counts["stored"] or counts["failed"]:
        log.info("%s: %s", what, ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
