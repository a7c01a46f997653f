"""Litestar's controller, with its routes in the order in which they are written."""

from litestar import Controller
from litestar.handlers import BaseRouteHandler


class OrderedController(Controller):
    """Litestar sorts handlers by their names; the documentation is read in the order in which they are written."""

    def get_route_handlers(self) -> list[BaseRouteHandler]:
        """Copies of the class's handlers, first written first."""
        written = list(vars(type(self)))
        return sorted(super().get_route_handlers(), key=lambda handler: written.index(handler.handler_name))
