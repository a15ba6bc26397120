from django.db import migrations
from django.db.models import Count, F, OuterRef, Subquery, Window
from django.db.models.functions import RowNumber


def fill_raw_data(apps, schema_editor):
    SubmissionFold = apps.get_model("runapp", "SubmissionFold")
    Submission = apps.get_model("runapp", "Submission")
    own = Submission.objects.filter(pk=OuterRef("submission_id")).values("raw_data_id")[:1]
    SubmissionFold.objects.update(raw_data_id=Subquery(own))


def fill_ranks(apps, schema_editor):
    SubmissionFold = apps.get_model("runapp", "SubmissionFold")
    Submission = apps.get_model("runapp", "Submission")
    number = Window(RowNumber(), partition_by=[F("submission_id")], order_by="id")
    folds = []
    for pk, rank in SubmissionFold.objects.annotate(n=number).values_list("pk", "n").iterator():
        folds.append(SubmissionFold(pk=pk, rank=rank - 1))
        if len(folds) == 500:
            SubmissionFold.objects.bulk_update(folds, ["rank"])
            folds = []
    SubmissionFold.objects.bulk_update(folds, ["rank"])
    counted = Submission.objects.annotate(n=Count("folds")).filter(n__gt=0)
    for pk, n_posted in counted.values_list("pk", "n").iterator():
        Submission.objects.filter(pk=pk).update(n_posted=n_posted)


def fill_starts(apps, schema_editor):
    FoldAttempt = apps.get_model("runapp", "FoldAttempt")
    FoldAttempt.objects.filter(started_at=None).update(started_at=F("ended_at"))


class Migration(migrations.Migration):
    # Apart from the changes of tables: PostgreSQL does not mix the two in one transaction.

    dependencies = [("runapp", "0003_scheduling")]

    operations = [
        migrations.RunPython(fill_raw_data, migrations.RunPython.noop),
        migrations.RunPython(fill_ranks, migrations.RunPython.noop),
        migrations.RunPython(fill_starts, migrations.RunPython.noop),
    ]
