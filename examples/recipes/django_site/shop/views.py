"""Orders come in here, and are looked at. One is stored together with its saga, or neither is."""

from __future__ import annotations

from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from saga.errors import SagaIdTakenError, UnknownExecutionError
from shop.models import Order
from shop.sagas import place_order


@require_POST
def orders(request: HttpRequest) -> JsonResponse:
    """Store an order. The same one twice is one; another under its number is refused."""
    number, item = request.POST["number"], request.POST["item"]
    try:
        with transaction.atomic():  # a worker sees the saga once this has committed: there is no need of on_commit
            Order.objects.get_or_create(number=number, defaults={"item": item})
            place_order.submit({"number": number, "item": item}, saga_id=number, connection=connection.connection)
    except SagaIdTakenError as error:
        return JsonResponse({"detail": str(error)}, status=409)
    return JsonResponse({"id": number}, status=202)


def order(request: HttpRequest, number: str) -> JsonResponse:
    try:
        result = place_order.load(number)
    except UnknownExecutionError as error:
        return JsonResponse({"detail": str(error)}, status=404)
    return JsonResponse({"status": result.status, "error": None if result.error is None else str(result.error)})
