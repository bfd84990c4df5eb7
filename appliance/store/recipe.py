"""Names a recipe for features: what they depend on. Another name, another cache.

Here and not in the trainer, which computes features, because the live loop looks frames up in the same cache.
"""

from __future__ import annotations

import hashlib
import json

from appliance.models.manifest import Manifest

VARIANTS = 6
PREPROCESSING = "areas, each pixel by its share"  # another word when vision.prepare() gives other pixels
AUGMENTATION = "every resize mode, the live one first, each as it is and mirrored"


def recipe_name(manifest: Manifest, variants: int) -> str:
    """The name of a manifest's features: its backbone, its input, and the augmentation.

    Args:
        manifest: Names backbone and input.
        variants: 1 for frames as they are (testing), VARIANTS for training; the first variant is always the frame
            as it is.
    """
    what = [
        manifest.parts["backbone"].sha256,
        manifest.input.width,
        manifest.input.height,
        manifest.input.resize_mode,
        variants,
        AUGMENTATION if variants > 1 else "",
        PREPROCESSING,
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
