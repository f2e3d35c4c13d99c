"""The collector: events over HTTP into the topic `events`, acknowledged only once they are durable.

Read `app.py` first, then `intake.py` (JSON to records, pure) and `delivery.py` (records to Kafka,
or to the spool on disk while Kafka is away).
"""
