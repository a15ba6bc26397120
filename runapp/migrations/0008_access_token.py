import secrets
from collections import Counter

import django.db.models.deletion
import runapp.models
import runapp.common.validators
from django.conf import settings
from django.db import migrations, models

OLD_TABLE = "knox_authtoken"


def take_over_tokens(apps, schema_editor):
    """Move the tokens of knox's own table, if there is one: their keys go on working."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        if OLD_TABLE not in connection.introspection.table_names(cursor):
            return
        columns = "digest, token_key, created, expiry, user_id"
        cursor.execute(f"SELECT {columns} FROM {OLD_TABLE} ORDER BY user_id, created")
        rows = cursor.fetchall()
        cursor.executemany(
            f"INSERT INTO runapp_accesstoken ({columns}, public_id, name)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            list(name_rows(rows)),
        )
        # What refers to accounts and is nobody's would keep them from being deleted.
        cursor.execute(f"DROP TABLE {OLD_TABLE}")


def name_rows(rows):
    numbers = Counter()
    for *columns, user_id in rows:
        numbers[user_id] += 1
        yield (*columns, user_id, secrets.token_hex(8), f"token {numbers[user_id]}")


class Migration(migrations.Migration):
    dependencies = [
        ("runapp", "0007_sharing"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AccessToken",
            fields=[
                ("digest", models.CharField(max_length=128, primary_key=True, serialize=False)),
                ("token_key", models.CharField(db_index=True, max_length=25)),
                ("created", models.DateTimeField(auto_now_add=True)),
                ("expiry", models.DateTimeField(blank=True, null=True)),
                (
                    "public_id",
                    models.CharField(
                        default=runapp.models.make_public_id, max_length=16, unique=True
                    ),
                ),
                ("name", models.CharField(max_length=100, validators=[runapp.common.validators.check_name])),
                ("last_used_at", models.DateTimeField(help_text="To a minute.", null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="auth_token_set",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("user", "name"), name="token_name_of_user")
                ],
            },
        ),
        migrations.RunPython(take_over_tokens, migrations.RunPython.noop),
    ]
