# Two allocations, replaced one after the other: `nomad job run pm2-envoy.nomad.hcl`. docs/platforms.md#nomad
# The clients need max_kill_timeout = "2m" or more in their configuration; otherwise they limit kill_timeout to 30s.
job "pm2-envoy" {
  datacenters = ["*"]
  type        = "service"

  # A new allocation passes its check before an old one is stopped.
  update {
    max_parallel     = 1
    canary           = 1
    auto_promote     = true
    auto_revert      = true
    health_check     = "checks"
    min_healthy_time = "5s"
    healthy_deadline = "2m"
  }

  group "edge" {
    count = 2

    # The service is deregistered first, and the signal comes after this delay. So check-delay can be short.
    shutdown_delay = "10s"

    network {
      port "http" {
        to = 10000
      }
      port "manager" {
        to = 8090
      }
    }

    service {
      name     = "pm2-envoy"
      port     = "http"
      provider = "nomad"

      check {
        name     = "ready"
        type     = "http"
        port     = "manager"
        path     = "/readyz"
        interval = "5s"
        timeout  = "4s"
      }
    }

    task "envoy" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "2m"

      config {
        image           = "registry.example.com/pm2-envoy:1"
        ports           = ["http", "manager"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        mount {
          type   = "tmpfs"
          target = "/tmp"
        }
      }

      env {
        PM2_ENVOY_PROFILE      = "container"
        PM2_ENVOY_GRACE_PERIOD = "2m"
        PM2_ENVOY_CHECK_DELAY  = "5s"
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
