"""A playbook that plans some roles on a host, keeps the plan in a file, and applies those that are needed.

wanted_roles: what is planned; applied_roles: which of them may run (all of them where it is not given).
"""

from typing import Any

PLAN_AND_APPLY: list[dict[str, Any]] = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"ollama_fleet.stack.plan": {"roles": "{{ wanted_roles }}"}, "register": "__plan", "name": "Plan"},
            {
                "name": "Keep the plan",
                "ansible.builtin.copy": {
                    "content": "{{ __plan.steps | to_json }}",
                    "dest": "{{ playbook_dir }}/steps.json",
                },
                "delegate_to": "localhost",
                "become": False,
                "changed_when": False,
                "check_mode": False,
            },
            {
                "name": "Apply",
                "ansible.builtin.include_role": {"name": "ollama_fleet.stack.{{ wanted_role }}"},
                "loop": "{{ __plan.needed | select('in', applied_roles | default(wanted_roles)) | list }}",
                "loop_control": {"loop_var": "wanted_role"},
            },
        ],
    }
]
