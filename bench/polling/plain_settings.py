"""Settings of the reference's server: datarun's own, with other routes and DRF's own renderer."""

from datarun.settings import *  # noqa: F403

ROOT_URLCONF = "bench.polling.plain"
REST_FRAMEWORK = {
    **REST_FRAMEWORK,  # noqa: F405
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
