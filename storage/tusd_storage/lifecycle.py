"""The state tables of sessions and assets, as literals. Pure."""

from collections.abc import Mapping

from tusd_storage.records import AssetState, SessionState

_S = SessionState
_A = AssetState

SESSION_EDGES: Mapping[SessionState, frozenset[SessionState]] = {
    _S.INITIALIZED: frozenset({_S.SIGNED, _S.ABORTED, _S.EXPIRED, _S.FAILED}),
    _S.SIGNED: frozenset(
        {
            _S.RESUMING,
            _S.UPLOADING,
            _S.UPLOADED,
            _S.VERIFYING,
            _S.ABORTED,
            _S.EXPIRED,
            _S.FAILED,
        }
    ),
    _S.RESUMING: frozenset({_S.UPLOADING, _S.ABORTED, _S.EXPIRED, _S.FAILED}),
    _S.UPLOADING: frozenset({_S.UPLOADED, _S.VERIFYING, _S.ABORTED, _S.EXPIRED, _S.FAILED}),
    _S.UPLOADED: frozenset({_S.VERIFYING}),
    _S.VERIFYING: frozenset({_S.COMPLETED, _S.FAILED}),
    _S.COMPLETED: frozenset(),
    _S.ABORTED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.FAILED: frozenset(),
}

ASSET_EDGES: Mapping[AssetState, frozenset[AssetState]] = {
    _A.STAGED: frozenset({_A.VALIDATING}),
    _A.VALIDATING: frozenset({_A.AVAILABLE, _A.QUARANTINED}),
    _A.AVAILABLE: frozenset(),
    _A.QUARANTINED: frozenset(),
}

TERMINAL: frozenset[SessionState] = frozenset(s for s, to in SESSION_EDGES.items() if not to)
OPEN: frozenset[SessionState] = frozenset(SESSION_EDGES) - TERMINAL


def sources_of(target: SessionState) -> frozenset[SessionState]:
    """States from which `target` can be reached in one step."""
    return frozenset(s for s, to in SESSION_EDGES.items() if target in to)
