-- A database and a role for each service; a role cannot connect to another's database.
--
-- Run once, by the superuser, when the server is new. Statements are separated by an empty
-- line. Passwords are read from files that the server can read.

DO $$
DECLARE
  service text;
  password text;
BEGIN
  FOREACH service IN ARRAY ARRAY['order', 'stock', 'point', 'coupon', 'cart'] LOOP
    password := trim(E' \n' FROM pg_read_file('/run/secrets/postgres_' || service));
    EXECUTE format(
      'CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 50 PASSWORD %L',
      'ensemble_' || service, password);
  END LOOP;
END
$$;

CREATE DATABASE ensemble_order OWNER ensemble_order;

CREATE DATABASE ensemble_stock OWNER ensemble_stock;

CREATE DATABASE ensemble_point OWNER ensemble_point;

CREATE DATABASE ensemble_coupon OWNER ensemble_coupon;

CREATE DATABASE ensemble_cart OWNER ensemble_cart;

-- By default anybody may connect to any database.

REVOKE ALL ON DATABASE ensemble_order, ensemble_stock, ensemble_point, ensemble_coupon, ensemble_cart FROM PUBLIC;

REVOKE ALL ON DATABASE postgres FROM PUBLIC;
