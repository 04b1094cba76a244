"""Where orders come in, and where they are looked at."""

from __future__ import annotations

from django.urls import path

from shop import views

urlpatterns = [path("orders", views.orders), path("orders/<str:number>", views.order)]
