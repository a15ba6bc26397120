import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("runapp", "0004_fill_scheduling")]

    operations = [
        migrations.AlterField(
            model_name="submissionfold",
            name="raw_data",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="folds",
                to="runapp.rawdata",
            ),
        ),
        migrations.AlterField(
            model_name="foldattempt",
            name="started_at",
            field=models.DateTimeField(),
        ),
    ]
