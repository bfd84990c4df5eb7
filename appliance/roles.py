"""What people may do on the page, and who asks; the command line knows them too, without a web framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["viewer", "labeller", "admin"]  # each may do what the ones before it may


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: The account's.
        role: What they may do.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether their role is that one or a greater one."""
        roles = get_args(Role)
        return bool(roles.index(self.role) >= roles.index(role))
