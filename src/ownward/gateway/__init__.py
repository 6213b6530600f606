"""Run: one OpenAI-compatible endpoint that carries out the plan and writes the ledger.

It never loads what decides (planner, simulation, perf).
"""
