"""Waits until a role's services run and answer, and says what is wrong if they don't."""

from __future__ import annotations

from appliance.installing.defaults import find, read_settings
from appliance.installing.installation import Installation
from appliance.installing.layout import Role
from appliance.installing.services import LASTING, log_last_words

DEADLINE_S = 120.0
_STEP_S = 3.0
_STEADY = 3  # so many looks in a row: a service that falls over at once is up now and then


def page_url(installation: Installation, role: Role) -> str:
    """Where a role's page answers on this machine, without a login."""
    table = read_settings(installation, role)
    if role == "server":
        return f"https://127.0.0.1:{find(table, 'page', 'port', 4911)}/login"
    https = find(table, "page", "https", True)
    return f"http{'s' if https else ''}://127.0.0.1:{find(table, 'page', 'port', 4912)}/healthz"


def well(installation: Installation, role: Role) -> bool:
    """Whether a role's page says that all is well, not only that it is there."""
    return installation.fetch(page_url(installation, role)) == 200


def wait_until_up(installation: Installation, role: Role, *, must_be_well: bool, deadline_s: float = DEADLINE_S) -> str:
    """Wait until all services of a role run and its page answers, steadily.

    Args:
        installation: This run.
        role: Whose services.
        must_be_well: Also wait until the page says so: a camera that watched must watch again.
        deadline_s: How long.

    Returns:
        What is wrong; empty if nothing is.
    """
    runner, url = installation.runner, page_url(installation, role)
    steady, waited_s, wrong = 0, 0.0, ""
    while steady < _STEADY and waited_s <= deadline_s:
        dead = [name for name in LASTING[role] if not runner.ask(["systemctl", "is-active", "--quiet", name]).ok]
        answer = None if dead else installation.fetch(url)
        if dead:
            wrong = f"{' and '.join(dead)} {'does' if len(dead) == 1 else 'do'} not run"
        elif answer is None:
            wrong = f"{url} does not answer"
        elif answer != 200 and (must_be_well or role == "server"):
            wrong = f"{url} answers {answer}"
        else:
            wrong = ""
        steady = 0 if wrong else steady + 1
        if steady < _STEADY:
            installation.pause(_STEP_S)
            waited_s += _STEP_S
    if not wrong:
        return ""
    for name in LASTING[role]:
        log_last_words(installation, name)
    return wrong
