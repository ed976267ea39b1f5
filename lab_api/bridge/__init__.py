"""Who may log in at the MQTT broker, and what each may say and hear there."""
