"""Rules of deletion, as S3 writes them."""

from __future__ import annotations

from typing import cast

import pytest
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.xml import marshal, unmarshal

from minio_client import StorageError
from minio_client.buckets import DeletionRule, clear_lifecycle, lifecycle, set_lifecycle


class Kept:
    """The part of a client that keeps rules, as the XML that goes over the wire."""

    def __init__(self, *rules: Rule) -> None:
        self.document = marshal(LifecycleConfig(list(rules))) if rules else None

    def bucket_exists(self, bucket: str) -> bool:
        return bucket == "evidence"

    def get_bucket_lifecycle(self, bucket: str) -> LifecycleConfig | None:
        return unmarshal(LifecycleConfig, self.document.decode()) if self.document else None

    def set_bucket_lifecycle(self, bucket: str, rules: LifecycleConfig) -> None:
        self.document = marshal(rules)

    def delete_bucket_lifecycle(self, bucket: str) -> None:
        assert self.document is not None, "some servers then delete the bucket"
        self.document = None


class Forgetful(Kept):
    """Takes rules for unfinished uploads and does not keep them, as MinIO does."""

    def set_bucket_lifecycle(self, bucket: str, rules: LifecycleConfig) -> None:
        plain = [Rule(rule.status, rule.rule_filter, rule.rule_id, expiration=rule.expiration) for rule in rules.rules]
        super().set_bucket_lifecycle(bucket, LifecycleConfig(plain))


def client(kept: Kept) -> Minio:
    return cast(Minio, kept)


@pytest.mark.parametrize(
    "rule",
    [
        DeletionRule(expire_days=30),
        DeletionRule(prefix="line-2/", expire_days=90, noncurrent_days=7, abort_uploads_days=2),
        DeletionRule(prefix="a & b/", noncurrent_days=1),
    ],
)
def test_rule_comes_back_as_it_was_set(rule: DeletionRule) -> None:
    storage = client(Kept())
    assert set_lifecycle(storage, "evidence", rule) == [rule]
    assert lifecycle(storage, "evidence") == [rule]


def test_rule_replaces_that_of_its_prefix_and_no_other() -> None:
    storage = client(Kept())
    set_lifecycle(storage, "evidence", DeletionRule("a/", expire_days=1))
    set_lifecycle(storage, "evidence", DeletionRule("b/", expire_days=2, noncurrent_days=5))
    set_lifecycle(storage, "evidence", DeletionRule("a/", expire_days=3))
    assert set(lifecycle(storage, "evidence")) == {
        DeletionRule("a/", expire_days=3),
        DeletionRule("b/", expire_days=2, noncurrent_days=5),
    }


def test_rules_of_another_program_are_shown_and_never_rewritten() -> None:
    foreign = Rule(ENABLED, rule_filter=Filter(prefix="tmp/"), rule_id="by-hand", expiration=Expiration(days=1))
    kept = Kept(foreign)
    before = kept.document
    assert lifecycle(client(kept), "evidence") == [DeletionRule("tmp/", expire_days=1, foreign=True)]
    with pytest.raises(StorageError, match="rules that another program made"):
        set_lifecycle(client(kept), "evidence", DeletionRule("a/", expire_days=3))
    assert kept.document == before


def test_part_of_a_rule_that_the_server_dropped_is_said() -> None:
    with pytest.raises(StorageError, match="did not keep all of it"):
        set_lifecycle(client(Forgetful()), "evidence", DeletionRule(expire_days=30, abort_uploads_days=2))


def test_rules_are_removed_and_nothing_is_sent_where_there_are_none() -> None:
    storage = client(Kept())
    clear_lifecycle(storage, "evidence")
    set_lifecycle(storage, "evidence", DeletionRule(expire_days=30))
    clear_lifecycle(storage, "evidence")
    assert lifecycle(storage, "evidence") == []


def test_missing_bucket_is_said() -> None:
    with pytest.raises(StorageError, match="There is no bucket nowhere"):
        lifecycle(client(Kept()), "nowhere")
