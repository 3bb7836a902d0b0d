"""What goes into and comes out of every LTI layer while a model runs."""

from contextlib import contextmanager

from ssmith.families import find_layers


@contextmanager
def tapped(model):
    """Yield layer name → (input, output), both (b, l, m), of the latest forward pass."""
    seen, hooks = {}, []
    for name, layer in find_layers(model).items():

        def record(_, given, out, name=name):
            seen[name] = (given[0].detach(), out.detach())

        hooks.append(layer.register_forward_hook(record))
    yield seen
    for hook in hooks:
        hook.remove()
