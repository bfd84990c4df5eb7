"""Every error that Sitecam raises on purpose, in one small tree.

::

    SitecamError
    ├── ConfigError            a setting, an option or an address that can't be used
    │   └── PortTakenError     another program listens there already
    ├── PictureError           a file that should be a picture isn't one we can read
    ├── DatasetError           a folder of pictures that can't be learned from as it is
    ├── StoreError             the frame store can't do what was asked
    │   ├── NoLabelsError      nobody has labelled a frame yet
    │   ├── NotThereError      a frame, an event or an account that isn't there
    │   └── StoreFullError     no room, and nothing that may be deleted without asking
    ├── NotAllowedError        somebody may not do what they asked for
    ├── CameraError            no picture from the camera
    │   ├── CameraMissingError the camera or its driver isn't there
    │   └── CaptureTimeoutError a capture did not come back in time
    ├── ModelError             a model version that must not be used
    │   ├── ManifestError      its manifest can't be read or contradicts itself
    │   ├── SignatureError     it wasn't signed by this fleet
    │   └── PartError          a part is missing or isn't what its hash says
    ├── ImpulseError           an .eim process that can't answer
    │   ├── NotAnImpulseError  the file isn't a runnable .eim
    │   ├── ImpulseExitedError the process ended
    │   ├── ImpulseSilentError no answer before the deadline
    │   ├── ImpulseGarbledError an answer that isn't the protocol's
    │   └── ImpulseRefusedError it answered success: false
    ├── SwapError              a new version did not earn its place; the old one stays
    │   └── SwapPostponedError something else stood in its way; it is tried again
    ├── CertificateError       TLS material is missing, unreadable or somebody else's
    ├── NightError             tonight's training can't go on
    ├── StudioError            Edge Impulse Studio could not do what was asked
    └── InstallError           the installer could not do what it should
"""

from __future__ import annotations


class SitecamError(Exception):
    """What happened, what it means and what to do, for a person to read.

    Args:
        what: What happened, one sentence without its full stop.
        means: What follows from it.
        do: What the reader can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, means: str = "", do: str = "") -> None:
        self.what, self.means, self.do = what, means, do
        super().__init__(" ".join(f"{part.rstrip('.')}." for part in (what, means, do) if part))


class ConfigError(SitecamError):
    """A setting, an option or an address that can't be used."""

    exit_code = 2


class PortTakenError(ConfigError):
    """Another program listens on the port already."""


class PictureError(SitecamError):
    """A file that should be a picture isn't one we can read."""


class DatasetError(SitecamError):
    """A folder of pictures that can't be learned from as it is."""


class StoreError(SitecamError):
    """The frame store can't do what was asked."""


class NoLabelsError(StoreError):
    """Nobody has labelled a frame yet."""


class NotThereError(StoreError):
    """A frame, an event or an account that isn't there, or isn't any longer."""


class StoreFullError(StoreError):
    """No room, and nothing left that may be deleted without asking."""


class NotAllowedError(SitecamError):
    """Somebody may not do what they asked for: a wrong code or password, or too small a role."""


class CameraError(SitecamError):
    """No picture from the camera."""


class CameraMissingError(CameraError):
    """The camera or its driver isn't there."""


class CaptureTimeoutError(CameraError):
    """A capture did not come back in time."""


class ModelError(SitecamError):
    """A model version that must not be used."""


class ManifestError(ModelError):
    """A manifest that can't be read or contradicts itself."""


class SignatureError(ModelError):
    """A manifest that wasn't signed by this fleet."""


class PartError(ModelError):
    """A part that is missing or isn't what its hash says."""


class ImpulseError(SitecamError):
    """An ``.eim`` process that can't answer."""


class NotAnImpulseError(ImpulseError):
    """The file isn't a runnable ``.eim``."""


class ImpulseExitedError(ImpulseError):
    """The ``.eim`` process ended."""


class ImpulseSilentError(ImpulseError):
    """No answer before the deadline."""


class ImpulseGarbledError(ImpulseError):
    """An answer that isn't the protocol's."""


class ImpulseRefusedError(ImpulseError):
    """The ``.eim`` answered ``success: false``."""


class SwapError(SitecamError):
    """A new version did not earn its place; the old one stays."""


class SwapPostponedError(SwapError):
    """Something else than the version stood in its way: a full disk, a camera without pictures."""


class CertificateError(SitecamError):
    """TLS material is missing, unreadable or somebody else's."""


class NightError(SitecamError):
    """Tonight's training can't go on."""


class InstallError(SitecamError):
    """Sitecam could not be installed, changed or taken off; the machine is as it was, or the message says how not."""


class StudioError(SitecamError):
    """Edge Impulse Studio could not do what was asked; nothing here was changed."""
