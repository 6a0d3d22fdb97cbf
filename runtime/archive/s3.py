"""A prefix of a bucket as a store, by boto3: credentials, endpoint and region from its usual chain (AWS_ENDPOINT_URL,
AWS_PROFILE, the machine's role, ...), retries with jitter by its standard mode.

Source of the semantics: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from runtime.archive.store import S3, Entry, SceneChanged, Store, StoreError, StoreRefused
from sarwater.dependencies import lazy_import
from sarwater.errors import UsageError

_INSTALL = "`pip install 'sarwater[archive]'`"
boto3 = lazy_import("boto3", "a bucket", install=_INSTALL)
_config = lazy_import("botocore.config", "a bucket", install=_INSTALL)
_errors = lazy_import("botocore.exceptions", "a bucket", install=_INSTALL)
_loaders = lazy_import("botocore.loaders", "a bucket", install=_INSTALL)
_parsers = lazy_import("botocore.parsers", "a bucket", install=_INSTALL)
_sessions = lazy_import("botocore.session", "a bucket", install=_INSTALL)

TRIES = 6
"""Of one request, with 1, 2, 4, 8, 16 seconds between them at most; a scene has more tries than one."""
ANSWER_S = 60
"""How long a store may be silent in the middle of a request."""
_IN_PARTS_BYTES = 64 << 20
_MISSING = ("404", "NoSuchKey", "NotFound")
_TAKEN = ("412", "PreconditionFailed")
_CONFLICT = ("409", "ConditionalRequestConflict")
_REFUSED = {
    "NoSuchBucket": "there is no such bucket; create it, or name another one",
    "AccessDenied": "the credentials in use may not do this; ask for permission, or use others",
    "403": "the credentials in use may not do this; ask for permission, or use others",
    "InvalidAccessKeyId": "the access key is unknown there; check AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY or AWS_PROFILE",
    "InvalidBucketName": "no bucket can have this name; expected s3://BUCKET/PREFIX",
    "NotImplemented": "the store does not know this request, perhaps conditional writes (If-None-Match: *); "
    "plan with --lock-table then",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
}
"""Errors that stay, and what to do."""
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_LATER = {
    **dict.fromkeys(_EXPIRED, "the credentials have expired; renew them, they are read again"),
    "InvalidObjectState": "it lies in cold storage (Glacier); restore it, then run again",
    "RequestTimeTooSkewed": "this machine's clock is more than 15 minutes off the store's; set it",
}
"""Errors that somebody may end while scenes wait, and how."""


class S3Store(Store):
    def __init__(self, url: str) -> None:
        super().__init__()
        place = url.removeprefix(S3).strip("/")
        self.root = S3 + place
        self._bucket, _, self._prefix = place.partition("/")
        if not self._bucket:
            raise UsageError(f"{url}: names no bucket; expected s3://BUCKET/PREFIX")
        _ = self._client

    @cached_property
    def _client(self) -> Any:
        """With the credentials as they are now."""
        try:
            client = _session().client("s3", config=_client_config())
        except (_errors.BotoCoreError, ValueError) as error:
            raise StoreRefused(
                f"{self.root}: {' '.join(str(error).split())}; check AWS_ENDPOINT_URL, AWS_PROFILE and AWS_REGION"
            ) from error
        client.meta.events.register("before-send.s3", self._count)
        return client

    def list(self, prefix: str = "") -> Iterator[Entry]:
        full, start = self._key(prefix), len(self._key(""))
        with self._telling(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{full}/" if full and not full.endswith("/") else full
            ):
                for found in page.get("Contents", ()):
                    key = found["Key"][start:]
                    if key.endswith("/") or "/." in f"/{key}"[len(prefix) :]:
                        continue
                    yield Entry(key, found["Size"], found["ETag"], found["LastModified"].timestamp())

    def read(self, key: str) -> bytes | None:
        try:
            body: bytes = self._got(key, None, lambda answer: answer["Body"].read())
        except SceneChanged:
            return None
        return body

    def download(self, key: str, path: Path, version: str | None = None) -> None:
        self._got(key, version, lambda answer: self._save(answer, path, key))

    def _got(self, key: str, version: str | None, take: Callable[[Any], Any]) -> Any:
        """What `take` makes of the answer; asked again where it is cut off within the body, which is left to us."""
        for left in range(TRIES - 1, -1, -1):
            answer = self._opened(key, version)
            try:
                with self._telling(key):
                    return take(answer)
            except StoreError:
                if not left:
                    raise
                time.sleep(random.uniform(0, 0.5 * 2 ** (TRIES - left)))
        raise AssertionError

    def _opened(self, key: str, version: str | None) -> Any:
        with self._telling(key):
            try:
                return self._client.get_object(**self._at(key), **({} if version is None else {"IfMatch": version}))
            except _errors.ClientError as error:
                if _code(error) not in (*_MISSING, *_TAKEN):
                    raise
                what = "is gone" if _code(error) in _MISSING else "was changed"
                raise SceneChanged(f"{self.url(key)}: {what} since the plan was made; plan again") from None

    def _save(self, answer: Any, path: Path, key: str) -> None:
        with path.open("wb") as file, contextlib.closing(answer["Body"]) as body:
            for chunk in body.iter_chunks(4 << 20):
                file.write(chunk)
            if file.tell() != answer["ContentLength"]:
                raise StoreError(f"{self.url(key)}: {file.tell():,} of {answer['ContentLength']:,} bytes came")

    def upload(self, path: Path, key: str) -> None:
        with self._telling(key):
            if path.stat().st_size <= _IN_PARTS_BYTES:
                body = path.read_bytes()
                self._client.put_object(**self._at(key), Body=body, ContentMD5=_md5(body))
            else:
                with path.open("rb") as file:
                    self._client.upload_fileobj(file, self._bucket, self._key(key))

    def create(self, key: str, body: bytes) -> bool:
        for left in range(TRIES - 1, -1, -1):
            try:
                with self._telling(key):
                    self._client.put_object(**self._at(key), Body=body, ContentMD5=_md5(body), IfNoneMatch="*")
                return True
            except StoreError as error:
                code = _code(error.__cause__)
                if code in _TAKEN:
                    return False
                if code not in _CONFLICT or not left:
                    raise
                time.sleep(0.2)
        return False

    def write(self, key: str, body: bytes) -> None:
        with self._telling(key):
            self._client.put_object(**self._at(key), Body=body, ContentMD5=_md5(body))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._telling(key):
                self._client.delete_object(**self._at(key))

    def abort_uploads(self, prefix: str, before_s: float) -> int:
        ended = 0
        with self._telling(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
                if upload["Initiated"].timestamp() < before_s:
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    ended += 1
        return ended

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(key)}

    def _count(self, event_name: str, **_: Any) -> None:
        self.requests[event_name.rsplit(".", 1)[-1]] += 1

    @contextlib.contextmanager
    def _telling(self, key: str) -> Iterator[None]:
        try:
            yield
        except (_errors.ClientError, _errors.BotoCoreError, _parsers.ResponseParserError) as error:
            code, where = _code(error), self.url(key).rstrip("/")
            if code in _REFUSED:
                raise StoreRefused(f"{where}: {_REFUSED[code]}") from error
            if isinstance(error, _errors.ParamValidationError):
                raise StoreRefused(f"{where}: {_REFUSED['InvalidBucketName']}") from error
            if isinstance(error, (_errors.NoCredentialsError, _errors.PartialCredentialsError)):
                raise StoreRefused(
                    f"{where}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                ) from error
            if code in _EXPIRED:
                self.__dict__.pop("_client", None)  # of several threads, each may notice
            said = _LATER.get(code) or f"{' '.join(str(error).split())}; run again later"
            raise StoreError(f"{where}: {said}") from error


def _session() -> Any:
    """With credentials of its own. What S3's requests look like is read once: parsing it takes a tenth of a second."""
    session = _sessions.get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return boto3.session.Session(botocore_session=session)


@lru_cache
def _loader(path: str | None) -> Any:
    return _loaders.create_loader(path)


def _client_config() -> Any:
    return _config.Config(
        retries={"mode": "standard", "total_max_attempts": TRIES},
        connect_timeout=10,
        read_timeout=ANSWER_S,
        max_pool_connections=32,
        # Stores other than Amazon's refuse the newer checksums; ours are in the items.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _code(error: BaseException | None) -> str:
    """Of an answer of the store; empty where there was none, or it was cut off."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
