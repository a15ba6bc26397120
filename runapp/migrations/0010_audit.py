from django.db import migrations, models
from django.db.models.functions import Now

# For each row: `loaddata` asks for rows to update, and finds none, before it adds one. TRUNCATE
# stays possible, and on SQLite DELETE, which is how Django empties a table there.
_ON_POSTGRESQL = """
CREATE FUNCTION runapp_keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'Events of the audit are neither changed nor deleted.'
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER runapp_keep_audit BEFORE UPDATE OR DELETE ON runapp_auditevent
    FOR EACH ROW EXECUTE FUNCTION runapp_keep_audit();
"""
_OFF_POSTGRESQL = """
DROP TRIGGER runapp_keep_audit ON runapp_auditevent;
DROP FUNCTION runapp_keep_audit();
"""
_ON_SQLITE = """
CREATE TRIGGER runapp_keep_audit BEFORE UPDATE ON runapp_auditevent
BEGIN
    SELECT RAISE(ABORT, 'Events of the audit are not changed.');
END
"""
_OFF_SQLITE = "DROP TRIGGER runapp_keep_audit"


def keep(apps, schema_editor):
    is_postgresql = schema_editor.connection.vendor == "postgresql"
    schema_editor.execute(_ON_POSTGRESQL if is_postgresql else _ON_SQLITE, params=None)


def let_go(apps, schema_editor):
    is_postgresql = schema_editor.connection.vendor == "postgresql"
    schema_editor.execute(_OFF_POSTGRESQL if is_postgresql else _OFF_SQLITE, params=None)


class Migration(migrations.Migration):
    dependencies = [("runapp", "0009_quotas")]

    operations = [
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(db_default=Now())),
                ("actor_id", models.BigIntegerField(null=True)),
                ("actor", models.CharField(default="", max_length=150)),
                ("via", models.CharField(max_length=20)),
                ("address", models.CharField(default="", max_length=64)),
                ("action", models.CharField(max_length=40)),
                ("kind", models.CharField(max_length=40)),
                (
                    "target",
                    models.CharField(default="", help_text="As the API names it.", max_length=64),
                ),
                (
                    "owner_id",
                    models.BigIntegerField(help_text="Whose the target is, or was.", null=True),
                ),
                ("owner", models.CharField(default="", max_length=150)),
                ("raw_data_id", models.BigIntegerField(null=True)),
                ("facts", models.JSONField(default=dict)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["actor", "id"], name="audit_actor"),
                    models.Index(fields=["owner", "id"], name="audit_owner"),
                    models.Index(fields=["action", "id"], name="audit_action"),
                    models.Index(fields=["kind", "target", "id"], name="audit_target"),
                    models.Index(fields=["raw_data_id", "id"], name="audit_raw_data"),
                    models.Index(fields=["address", "id"], name="audit_address"),
                    models.Index(fields=["at"], name="audit_at"),
                ],
            },
        ),
        migrations.RunPython(keep, let_go),
    ]
