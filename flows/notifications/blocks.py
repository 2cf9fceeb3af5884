"""Prefect's notification blocks, by name: Slack, Teams, PagerDuty and whatever else is set up in its dashboard."""

from __future__ import annotations

from flows.notifications.errors import DeliveryError
from flows.notifications.notice import Notice, to_text
from tasks.retraining.notification import NotificationBlock


def tell(notice: Notice, block: NotificationBlock) -> None:
    """Send a notice once; Prefect has to be pointed to its server.

    Raises:
        DeliveryError: there is no such block, it is none that notifies, or its service did not take the notice.
    """
    from prefect.blocks.abstract import NotificationBlock as PrefectBlock
    from prefect.blocks.abstract import NotificationError
    from prefect.blocks.core import Block, UnknownBlockType
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # the tries are ours
            loaded = Block.load(block.name, _sync=True)  # type: ignore[call-arg]
    except (ValueError, UnknownBlockType) as error:
        raise DeliveryError(f"Prefect has no block {block.name}, or cannot load it: {error}", again=False) from error
    except Exception as error:
        raise DeliveryError(f"Prefect's server: {type(error).__name__}: {error}", again=True) from error
    if not isinstance(loaded, PrefectBlock):
        raise DeliveryError(f"{block.name} is a block that notifies nobody", again=False)
    try:
        with loaded.raise_on_failure():
            loaded.notify(to_text(notice), notice.subject, _sync=True)  # type: ignore[call-arg, unused-coroutine]
    except NotificationError as error:
        lines = [line for line in str(error.log).splitlines() if line.strip()]
        raise DeliveryError(lines[-1] if lines else "its service did not take it", again=True) from error
    except Exception as error:
        raise DeliveryError(f"{type(error).__name__}: {error}", again=True) from error
