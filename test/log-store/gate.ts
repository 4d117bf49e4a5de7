/** Lets pass, or holds what comes until it is told to let go. */
export class Gate {
  #closed: Promise<void> | null = null

  /** Settles when it is open; null: it is. */
  get passage(): Promise<void> | null {
    return this.#closed
  }

  /** Opens again when the function that it gives is called. */
  close(): () => void {
    let open = () => {}
    this.#closed = new Promise((resolve) => {
      open = resolve
    })
    return () => {
      this.#closed = null
      open()
    }
  }
}
