# Signs a tenant token in Python: doc/token.md shows this file.
#
#   python3 test/token/sign.py PRIVATE_KEY.pem KEY_ID SYSTEM_IDENTIFIER DATABASE TENANT [ACTOR]
#
# The standard library packs the token; Ed25519 is in the package "cryptography".
import base64, os, struct, sys, time, uuid


def tenant_token(private_key, key_id, system_identifier, database, tenant, actor="", ttl=60,
                 read_only=False, no_ddl=False, support=False):
    name = actor.encode()
    payload = struct.pack(
        ">BIQI16sBqH16sB", 1, key_id, system_identifier, database, uuid.UUID(tenant).bytes,
        read_only * 1 + no_ddl * 2 + support * 4, int(time.time() * 1000), ttl, os.urandom(16),
        len(name)) + name
    base64url = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    signed = b"t1." + base64url(payload)
    return (signed + b"." + base64url(private_key.sign(signed))).decode()


if __name__ == "__main__":
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    key, key_id, system_identifier, database, tenant, *actor = sys.argv[1:]
    print(tenant_token(load_pem_private_key(open(key, "rb").read(), None), int(key_id),
                       int(system_identifier), int(database), tenant, *actor))
