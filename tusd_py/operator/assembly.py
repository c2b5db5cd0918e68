"""Puts the operator's door together from what the server is made of."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Protocol as TypingProtocol

from tusd_py import __version__
from tusd_py.operator.service import Jobs, Operator, OperatorParts
from tusd_py.operator.snapshot import Sources
from tusd_py.settings import Settings
from tusd_reaper.actions import Actions, Tools
from tusd_storage.ports.listings import NodeRegistry
from tusd_storage.ports.overview import Overview, ReaperDiary
from tusd_storage.records import Asset, UploadSession

GONE_AFTER = timedelta(minutes=5)
"""Nodes report every minute (`tusd_py.maintenance`)."""


class State(Overview, ReaperDiary, NodeRegistry, Jobs, TypingProtocol):
    """What the operator's door asks of the database."""

    async def asset(self, asset_id: str) -> Asset | None:
        """See `SessionStore`."""
        ...


class Canceller(TypingProtocol):
    """The broker, as far as it is needed here."""

    async def cancel_session(self, session_id: str) -> UploadSession:
        """Ends an unfinished session of any protocol."""
        ...


def assemble(
    settings: Settings,
    *,
    state: State,
    broker: Canceller,
    tools: Tools,
    receiving: Callable[[], Mapping[str, int]],
) -> Operator:
    """The operator's door. Touches nothing before it is used."""
    return Operator(
        OperatorParts(
            sources=Sources(
                overview=state,
                registry=state,
                diary=state,
                receiving=receiving,
                now=tools.now,
                node=tools.node,
                version=__version__,
                idle_after=settings.operator_idle_after,
                gone_after=GONE_AFTER,
            ),
            jobs=state,
            cancel=broker.cancel_session,
            find_asset=state.asset,
            finishers=tools.finishers,
            clean=Actions(tools).clean,
        )
    )
