-- Run once, when the database server is new. MLflow's own database is made by POSTGRES_DB.
CREATE DATABASE alarms;
