"""An event on sale in pretix, for `python -m pretix shell`; prints an API token and the id of the ticket."""

from datetime import timedelta
from decimal import Decimal

from django.utils.timezone import now
from django_scopes import scopes_disabled

with scopes_disabled():
    from pretix.base.models import Event, Item, Organizer, Quota, Team, TeamAPIToken

    organizer = Organizer.objects.create(name="Bench", slug="bench")
    event = Event.objects.create(
        organizer=organizer,
        name="Bench",
        slug="bench",
        date_from=now() + timedelta(days=90),
        currency="EUR",
        live=True,
    )
    ticket = Item.objects.create(event=event, name="Ticket", default_price=Decimal("10.00"), admission=True)
    quota = Quota.objects.create(event=event, name="All", size=1_000_000)
    quota.items.add(ticket)
    team = Team.objects.create(organizer=organizer, name="API", all_events=True)
    for field in Team._meta.get_fields():
        if field.name.startswith(("can_", "all_")) and field.get_internal_type() == "BooleanField":
            setattr(team, field.name, True)
    team.save()
    print("SHOP", TeamAPIToken.objects.create(team=team, name="bench").token, ticket.pk)
