import django.db.models.deletion
import runapp.models
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("runapp", "0005_require_scheduling"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Clock",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("value", models.BigIntegerField(default=1)),
                ("epoch", models.CharField(default=runapp.models.make_epoch, max_length=16)),
                (
                    "removed_seq",
                    models.BigIntegerField(default=0, help_text="When rows were last removed."),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Removals",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("seq", models.BigIntegerField()),
            ],
            options={
                "verbose_name_plural": "removals",
            },
        ),
        migrations.RemoveIndex(
            model_name="submissionfold",
            name="fold_new",
        ),
        migrations.AddField(
            model_name="rawdata",
            name="change_seq",
            field=models.BigIntegerField(null=True, default=1),
        ),
        migrations.AddField(
            model_name="submissionfold",
            name="change_seq",
            field=models.BigIntegerField(null=True, default=1),
        ),
        migrations.AlterField(
            model_name="rawdata",
            name="change_seq",
            field=models.BigIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name="submissionfold",
            name="change_seq",
            field=models.BigIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name="submissionfold",
            name="owner",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="folds",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddIndex(
            model_name="rawdata",
            index=models.Index(fields=["change_seq", "id"], name="raw_data_changes"),
        ),
        migrations.AddIndex(
            model_name="submissionfold",
            index=models.Index(
                condition=models.Q(("new", True), ("phase", "done")),
                fields=["owner", "state", "finished_at", "id"],
                name="fold_new",
            ),
        ),
        migrations.AddIndex(
            model_name="submissionfold",
            index=models.Index(
                fields=["owner", "id", "databoard_sf_id", "submission", "state", "new"],
                name="fold_pages",
            ),
        ),
        migrations.AddIndex(
            model_name="submissionfold",
            index=models.Index(fields=["owner", "change_seq", "id"], name="fold_changes"),
        ),
        migrations.AddIndex(
            model_name="submissionfold",
            index=models.Index(fields=["change_seq", "id"], name="fold_all_changes"),
        ),
        migrations.AddField(
            model_name="removals",
            name="owner",
            field=models.OneToOneField(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
    ]
