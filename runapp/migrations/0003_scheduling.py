import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("runapp", "0002_worker_self_test"),
    ]

    operations = [
        migrations.RemoveIndex(model_name="submissionfold", name="fold_waiting"),
        migrations.RemoveIndex(model_name="submissionfold", name="fold_lease"),
        migrations.RemoveIndex(model_name="submissionfold", name="fold_claim_token"),
        migrations.RemoveField(model_name="submissionfold", name="claim_token"),
        migrations.AddField(
            model_name="rawdata",
            name="paused",
            field=models.BooleanField(
                default=False, help_text="Its waiting folds stay where they are."
            ),
        ),
        migrations.AddField(
            model_name="rawdata",
            name="fail_fast",
            field=models.BooleanField(
                default=False,
                help_text="A fold that fails before `fit` ends the waiting folds of the same code.",
            ),
        ),
        migrations.AddField(
            model_name="submission",
            name="n_posted",
            field=models.PositiveIntegerField(default=0, help_text="Folds ever posted for it."),
        ),
        migrations.AddField(
            model_name="submissionfold",
            name="charged_seconds",
            field=models.FloatField(
                default=0, help_text="What the claim has put on its account's share."
            ),
        ),
        migrations.AddField(
            model_name="submissionfold",
            name="false_starts",
            field=models.PositiveIntegerField(
                default=0, help_text="Claims whose worker was lost before the code had begun."
            ),
        ),
        migrations.AddField(
            model_name="submissionfold",
            name="rank",
            field=models.PositiveIntegerField(
                default=0, help_text="Its number within its submission."
            ),
        ),
        migrations.AddField(
            model_name="submissionfold",
            name="raw_data",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="folds",
                to="runapp.rawdata",
            ),
        ),
        migrations.AddField(
            model_name="foldattempt",
            name="refused",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Writes that came when the fold was no longer this attempt's.",
            ),
        ),
        migrations.AlterField(
            model_name="foldattempt",
            name="ended_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AlterField(
            model_name="foldattempt",
            name="outcome",
            field=models.CharField(
                default="",
                help_text="tested, an error code, or why it ended; empty while it runs.",
                max_length=20,
            ),
        ),
        migrations.CreateModel(
            name="FairShare",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "seconds",
                    models.FloatField(
                        default=0, help_text="Recent running time; halved every hour."
                    ),
                ),
                (
                    "counted_at",
                    models.DateTimeField(
                        help_text="Until when the running time has been decayed."
                    ),
                ),
                (
                    "expected_seconds",
                    models.FloatField(help_text="How long its folds have lately taken."),
                ),
                (
                    "cap",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Most folds that run at once; empty for the setting's.",
                        null=True,
                    ),
                ),
                (
                    "owner",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="fair_share",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="submissionfold",
            index=models.Index(
                condition=models.Q(("phase", "waiting")),
                fields=["priority", "owner", "raw_data", "rank", "id"],
                name="fold_queue",
            ),
        ),
        migrations.AddIndex(
            model_name="submissionfold",
            index=models.Index(
                condition=models.Q(("phase", "running")),
                fields=["owner", "lease_expires_at"],
                name="fold_running",
            ),
        ),
    ]
