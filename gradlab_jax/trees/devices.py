"""Where the work is done: a device that is not there is told with those that are."""

from __future__ import annotations

import os

import jax

from gradlab_core.errors import GradlabError


def device(name: str | None = None) -> jax.Device:
    """The first device of that platform (`cpu`, `gpu`, `tpu`); None: the one that JAX uses by itself.

    Raises:
        GradlabError: it is not there, or JAX cannot start what JAX_PLATFORMS names.

    >>> device("abacus")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: device 'abacus' is not there; expected one that JAX has here: cpu...
    """
    try:
        return jax.devices(name)[0]
    except (RuntimeError, AssertionError) as error:
        named = os.environ.get("JAX_PLATFORMS", "")
        there = _there()
        if named and not there:
            reason = f" ({error})" if str(error) else ""
            raise GradlabError(
                f"JAX_PLATFORMS is {named!r}, of which JAX can start nothing here{reason}; expected a platform that is "
                "there: set JAX_PLATFORMS=cpu, or unset it"
            ) from error
        held = f"; JAX_PLATFORMS is {named!r} and lets no other be used" if named else ""
        raise GradlabError(
            f"device {name!r} is not there; expected one that JAX has here: {', '.join(there)}{held}"
        ) from error


def _there() -> list[str]:
    platforms = []
    for platform in ("cpu", "gpu", "tpu"):
        try:
            jax.devices(platform)
        except (RuntimeError, AssertionError):
            continue
        platforms.append(platform)
    return platforms
