from hotloop.session.principal import Tenant
from hotloop.turns.terms import TenantTerms


def test_what_is_remembered_is_a_tenants_own() -> None:
    terms = TenantTerms()
    mine = terms.of(Tenant("a"))
    assert terms.of(Tenant("b")) is not mine
    assert terms.of(Tenant("a")) is mine


def test_the_tenant_that_asked_longest_ago_is_forgotten_first() -> None:
    terms = TenantTerms(tenants=2)
    first, second = terms.of(Tenant("a")), terms.of(Tenant("b"))
    assert terms.of(Tenant("a")) is first
    terms.of(Tenant("c"))
    assert terms.of(Tenant("a")) is first
    assert terms.of(Tenant("b")) is not second
