"""A random walk: many callers, two controllers and three nodes, which die at random.

- `world`: what the callers share: drivers, volumes, what is acknowledged, what is wrong;
- `calls`: one call of the driver, right or wrong, by chance;
- `contents`: what each volume must hold, and must not hold after a rollback;
- `copies`: the snapshots and copies;
- `rollbacks`: the operator's command, which may be killed;
- `freezes`: what a frozen snapshot promises, and that nothing stays frozen;
- `data`: writes and reads of a published volume, with the rules that they must keep;
- `deaths`: kills drivers and starts them again;
- `end`: takes everything down as Kubernetes would, and says what is left;
- `walk`: all of it together. `python -m e2e.walk SECONDS`.
"""
