# The programs, one image each. `docker compose build` builds them all; by hand:
#   docker build --target order-svc --tag ensemble/order-svc .
#
# An image has a program, the libraries that it names, and the certificates of public
# authorities: no shell, no package manager, no user but the one that runs it.

FROM rust:1.95.0-slim-bookworm AS build
# For the allocator, which is written in C.
RUN apt-get update && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
        --package ensemble --package order-svc --package stock-svc \
        --package point-svc --package coupon-svc --package cart-svc \
    && mkdir -p /out/bin \
    && for program in ensemble order-svc stock-svc point-svc coupon-svc cart-svc; do \
        strip --output-file "/out/bin/$program" "target/release/$program"; \
    done
# `ldd` prints `name => path` for a library, and a bare path for the loader.
RUN mkdir -p /out/root/etc/ssl/certs \
    && cp /etc/ssl/certs/ca-certificates.crt /out/root/etc/ssl/certs/ \
    && for file in $(ldd /out/bin/* | awk '$2 == "=>" { print $3 } $1 ~ /^\/lib/ { print $1 }' | sort -u); do \
        mkdir -p "/out/root$(dirname "$file")" && cp --dereference "$file" "/out/root$file"; \
    done

FROM scratch AS base
COPY --from=build /out/root /
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080

FROM base AS order-svc
COPY --from=build /out/bin/order-svc /order-svc
ENTRYPOINT ["/order-svc"]

FROM base AS stock-svc
COPY --from=build /out/bin/stock-svc /stock-svc
ENTRYPOINT ["/stock-svc"]

FROM base AS point-svc
COPY --from=build /out/bin/point-svc /point-svc
ENTRYPOINT ["/point-svc"]

FROM base AS coupon-svc
COPY --from=build /out/bin/coupon-svc /coupon-svc
ENTRYPOINT ["/coupon-svc"]

FROM base AS cart-svc
COPY --from=build /out/bin/cart-svc /cart-svc
ENTRYPOINT ["/cart-svc"]

FROM base AS ensemble
COPY --from=build /out/bin/ensemble /ensemble
ENTRYPOINT ["/ensemble"]
