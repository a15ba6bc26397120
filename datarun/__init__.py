"""The Django project: settings, the Celery app, root urls and the process supervisor."""

from datarun.celery import app as celery_app

__all__ = ["celery_app"]
