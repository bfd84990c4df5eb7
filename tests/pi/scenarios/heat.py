"""Heat, throttling and weak power, as the board's firmware tells them: the night refuses, and says so."""

from __future__ import annotations

from tests.pi.machine import Machine
from tests.pi.parts import Bench, journal

_CASES = (  # temperature, throttled word, what the night must say
    ("temp=71.5'C", "throttled=0x0", "72 °C hot"),
    ("temp=48.0'C", "throttled=0x1", "power supply is too weak"),
    ("temp=48.0'C", "throttled=0x4", "holds itself back"),
)


def run(bench: Bench) -> None:
    """Run it."""
    story = bench.story
    with bench.enrolled("heat") as machine:
        # its last night is over; another one begins now (the machine's time zone is the site's)
        for key, moment in (("begins", "now"), ("ends", "3 hours")):
            time = machine.run(f"date --date='{moment}' +%H:%M").output.strip()
            machine.run(f"sed -i 's/^{key} = .*/{key} = \"{time}\"/' /etc/sitecam/sitecam.toml")
        machine.run("sitecam-install apply")
        for temperature, throttled, words in _CASES:
            said = _night(machine, temperature, throttled)
            story.check(words in said, f"{temperature} {throttled}: the night says {words!r}", said)
        said = _night(machine, "temp=48.0'C", "throttled=0x50000")
        refused = any(words in said for _, _, words in _CASES)
        story.check(not refused, "what is over since the start is no reason", said)
        _answer(machine, "temp=81.0'C", "throttled=0x4")
        doctor = machine.run("sitecam doctor", check=False).output
        story.quote("\n".join(line for line in doctor.splitlines() if "temperature" in line or "throttling" in line))
        story.check("81" in doctor, "sitecam doctor says how hot it is", doctor)


def _answer(machine: Machine, temperature: str, throttled: str) -> None:
    machine.write("/srv/standins/vcgencmd/measure_temp", f"{temperature}\n")
    machine.write("/srv/standins/vcgencmd/get_throttled", f"{throttled}\n")


def _night(machine: Machine, temperature: str, throttled: str) -> str:
    """What the night's service says of such a board."""
    _answer(machine, temperature, throttled)
    machine.run("journalctl --rotate --quiet; journalctl --vacuum-time=1s --quiet", check=False)
    machine.run("systemctl start sitecam-night.service", check=False, deadline_s=120)
    return journal(machine, "sitecam-night.service")
