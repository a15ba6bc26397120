"""Root routes."""

from django.contrib import admin
from django.urls import include, path

from runapp.schema import views as schema
from runapp.views.health import answer_live, answer_ready
from runapp.views.metrics import answer_metrics

urlpatterns = [
    path("runapp/", include("runapp.urls")),
    path("schema/", schema.Document.as_view(), name="schema"),
    path("docs/", schema.SwaggerPage.as_view()),
    path("docs/redoc/", schema.RedocPage.as_view()),
    path("ops/", include("runapp.ops.urls")),
    path("admin/", admin.site.urls),
    path("health/live", answer_live),
    path("health/ready", answer_ready),
    path("metrics", answer_metrics),
]

handler400 = "runapp.views.plain.answer_bad_request"
handler403 = "runapp.views.plain.answer_forbidden"
handler404 = "runapp.views.plain.answer_not_found"
handler500 = "runapp.views.plain.answer_server_error"
