"""An S3 API on 127.0.0.1, by moto's server, which keeps everything in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.services.server import free_port, running_tree, wait_for_page

BUCKETS = ("artifacts", "dvc")
"""One for MLflow's artifacts, one for DVC's remote."""


class Storage:
    """A running S3 API.

    Attributes:
        url: its address.
        folder: with its log.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def environment(self) -> dict[str, str]:
        """Return by what boto3, and with it MLflow and DVC, finds the API. Moto takes any name and key."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "keypipe",
            "AWS_SECRET_ACCESS_KEY": "keypipe-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """Return boto3's client."""
        import boto3

        settings = self.environment()
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
            region_name=settings["AWS_DEFAULT_REGION"],
        )

    def keys(self, bucket: str) -> list[str]:
        """Return the names of all objects of a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@contextmanager
def running_storage(folder: Path) -> Iterator[Storage]:
    """Run the API with its empty buckets while the block runs.

    Args:
        folder: gets its log.

    Raises:
        PoseError: it does not come up.
    """
    port = free_port()
    storage = Storage(f"http://127.0.0.1:{port}", folder)
    command = [sys.executable, "-P", "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    log = Path("s3.log")
    with running_tree(folder, command, os.environ, log) as tree:
        wait_for_page(folder / log, tree, f"{storage.url}/moto-api/")
        for bucket in BUCKETS:
            storage.client().create_bucket(Bucket=bucket)
        yield storage
