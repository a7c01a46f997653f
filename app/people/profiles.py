"""What people see of themselves, and how they change it."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from piccolo.columns import Column

from app.auth.tokens import TokenInvalid
from app.people.images import Images
from app.wallets.views import WalletView, wallets_of
from db.tables import User
from db.transaction import CommitInDoubt, transaction


class UserView(Struct, frozen=True, kw_only=True):
    """A person as they see themselves. `profile_image` is a URL."""

    id: UUID
    email: Annotated[str, Meta(examples=["ann@example.com"])]
    phone_number: Annotated[str, Meta(examples=["+77011234567"])]
    first_name: Annotated[str, Meta(examples=["Ann"])]
    last_name: Annotated[str, Meta(examples=["Lee"])]
    profile_image: Annotated[str | None, Meta(description="A URL.")]
    wallets: list[WalletView]


class ProfileChanges(Struct, frozen=True, kw_only=True):
    """What is to be changed; unset stays as it is, and an image of None is removed."""

    first_name: str | UnsetType = UNSET
    last_name: str | UnsetType = UNSET
    image: bytes | UnsetType | None = UNSET


class Profiles:
    """Reads and changes profiles; their images are files, named by the user's row."""

    def __init__(self, images: Images) -> None:
        self._images = images

    async def view(self, user_id: UUID) -> UserView:
        """
        The person and their wallets.

        Raises:
            TokenInvalid: there is no such person any more, so their token is worth nothing.
        """
        user = await User.select().where(User.id == user_id).first()
        if user is None or user["erased_at"]:
            raise TokenInvalid()
        return UserView(
            id=user_id,
            email=user["email"],
            phone_number=user["phone_number"],
            first_name=user["first_name"],
            last_name=user["last_name"],
            profile_image=self._images.url(user["profile_image"]) if user["profile_image"] else None,
            wallets=await wallets_of(user_id),
        )

    async def update(self, user_id: UUID, changes: ProfileChanges) -> UserView:
        """
        Apply the changes; the file of a replaced image goes once the row no longer names it.

        Raises:
            ImageTooLarge, ValidationFailed, Overloaded: as `Images.keep`.
        """
        columns: dict[Column | str, Any] = {
            name: value
            for name, value in (("first_name", changes.first_name), ("last_name", changes.last_name))
            if value is not UNSET
        }
        new_image = await self._images.keep(changes.image) if isinstance(changes.image, bytes) else None
        if changes.image is not UNSET:
            columns["profile_image"] = new_image
        try:
            old_image, answer = await self._change(user_id, columns)
        except CommitInDoubt:
            raise  # the row may name the new file, so the file stays
        except BaseException:
            if new_image:
                await self._images.remove(new_image)
            raise
        if old_image and changes.image is not UNSET:
            await self._images.remove(old_image)
        return answer

    async def _change(self, user_id: UUID, columns: dict[Column | str, Any]) -> tuple[str | None, UserView]:
        """The image before, and the person after."""
        async with transaction():
            # Locked, so that of two uploads at once the second removes what the first stored.
            rows = await User.raw(
                'SELECT profile_image FROM "user" WHERE id = {} AND erased_at IS NULL FOR NO KEY UPDATE', user_id
            )
            if not rows:
                raise TokenInvalid()
            if columns:
                await User.update({**columns, "updated_at": datetime.now(UTC)}).where(User.id == user_id)
            return rows[0]["profile_image"], await self.view(user_id)
