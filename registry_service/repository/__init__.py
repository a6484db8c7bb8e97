"""All SQL of the registry: plain functions over a session, called inside one short transaction."""
