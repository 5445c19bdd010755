-- the ledger has the database that the image makes; Prefect has one of its own
CREATE DATABASE prefect;
