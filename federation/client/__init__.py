"""For programs that are agents: claims tasks, keeps their leases, does them by your functions, tells what came out.

    from federation.client import Agent, Failed

    agent = Agent("https://ntd.example", token="nta_...")

    @agent.handles("price")
    def price(task):
        task.progress = 0.5
        return {"price": 42 * task.payload["n"]}

    agent.run()        # until SIGTERM: then it finishes what it has, and takes no more

It needs Python, httpx and websockets, and nothing else of ntd.

    verbs      what can be asked, and where REST has it
    rest, websocket    the two transports
    work       a task under way
    agent      the agent itself
"""

from federation.client.agent import Agent
from federation.client.transport import Problem, Unreachable
from federation.client.work import Cancelled, Failed, Work

__all__ = ["Agent", "Cancelled", "Failed", "Problem", "Unreachable", "Work"]
