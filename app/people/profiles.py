"""`GET /users/` and `PATCH /users/update/`: what people see of themselves, and how they change it."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, get, patch
from litestar.di import NamedDependency
from msgspec import UNSET, Meta, Struct
from piccolo.columns import Column

from actors.refusals import DatabaseUnavailable
from app.auth.tokens import SIGNED_OUT, Caller, TokenInvalid, signed_in
from app.auth.turns import turn_of
from app.http.controller import OrderedController
from app.http.problems import problems
from app.people.fields import ANY_BODY, YOUR_PROFILE
from app.people.images.child import ImagesUnavailable, Picture
from app.people.images.keeping import Images
from app.people.profile_form import FORM_BYTES_MAX, ProfileChanges, ProfileOperation, profile_changes
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
            Overloaded, ImagesUnavailable: as `Images.keep`.
        """
        columns: dict[Column | str, Any] = {
            name: value
            for name, value in (("first_name", changes.first_name), ("last_name", changes.last_name))
            if value is not UNSET
        }
        new_image = await self._images.keep(changes.image) if isinstance(changes.image, Picture) else None
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
        async with turn_of(user_id), transaction():
            # Locked, so that of two uploads at once the second removes what the first stored.
            rows = await User.raw(
                'SELECT profile_image FROM "user" WHERE id = {} AND erased_at IS NULL FOR NO KEY UPDATE', user_id
            )
            if not rows:
                raise TokenInvalid()
            if columns:
                await User.update({**columns, "updated_at": datetime.now(UTC)}).where(User.id == user_id)
            return rows[0]["profile_image"], await self.view(user_id)


class ProfileController(OrderedController):
    """The caller's own profile."""

    path = "/users"
    tags = ("Users",)

    @get(
        "/",
        before_request=signed_in,
        summary="Your profile",
        response_description=YOUR_PROFILE,
        responses=problems(*SIGNED_OUT, DatabaseUnavailable),
    )
    async def profile(self, caller: NamedDependency[Caller], profiles: NamedDependency[Profiles]) -> UserView:
        """Returns your profile and your wallets."""
        return await profiles.view(caller.user_id)

    @patch(
        "/update",
        before_request=signed_in,
        summary="Change your profile",
        response_description=YOUR_PROFILE,
        request_max_body_size=FORM_BYTES_MAX,
        operation_class=ProfileOperation,
        responses=problems(*ANY_BODY, ImagesUnavailable, *SIGNED_OUT),
    )
    async def update(
        self,
        request: Request[Caller, Any, Any],
        caller: NamedDependency[Caller],
        images: NamedDependency[Images],
        profiles: NamedDependency[Profiles],
    ) -> UserView:
        """
        Changes your names and your profile image. Send JSON, where `"profile_image": null` removes the image, or a form
        with a PNG, JPEG or WebP file of at most 5 MiB and 25 megapixels, 50 in a JPEG. The image is stored upright,
        without metadata, and at most 2048 pixels a side. Send one image after another, not several at once.
        """
        return await profiles.update(caller.user_id, await profile_changes(request, images))
